// What a launcher told this process about its job: torchrun, mpirun, srun, Kubeflow and their kind say it in the environment.
#pragma once

#include <functional>
#include <string>

#include "base/status.h"

namespace ds {

struct Launch {
    std::string by;  // "Open MPI", "PMI", "torchrun", "Slurm" ...; empty: nobody launched a job
    int rank = 0, size = 1;
    int local_rank = 0;    // among the processes of this host
    int local_size = 0;    // of this host; 0: not told
    bool one_host = true;  // all processes are on this host
    int restart = 0;       // how often the launcher has started the job again: processes of an earlier round are strangers
    std::string address;   // of rank 0; empty: not told, and not needed on one host
    bool address_is_given = false;
    int port = 29500;
    std::string job;  // a name of the job that other jobs on the same hosts don't have
};

using Environment = std::function<const char*(const char* name)>;

// Launchers in the order mpirun (Open MPI, PMI, MVAPICH, JSM), torchrun and its kind, Slurm: mpirun under Slurm inherits variables of
// srun's that are not about it, and torchrun runs as one Slurm task a node. E_CONFIG: variables that contradict each other or make no
// sense, by name.
Result<Launch> launch_of(const Environment& environment);
Result<Launch> launch_of_this_process();

// The first host of Slurm's list: "node[03-05,9],other" is node03.
std::string first_host(const std::string& list);

}  // namespace ds
