// lib/comm/launch: what launchers say, and the traps in it.
#include "comm/launch.h"

#include <doctest/doctest.h>

#include <map>

using namespace ds;

namespace {

using Variables = std::map<std::string, std::string>;

Result<Launch> launch(const Variables& variables) {
    return launch_of([&](const char* name) -> const char* {
        const auto found = variables.find(name);
        return found == variables.end() ? nullptr : found->second.c_str();
    });
}

void refuses(const Variables& variables, const char* words) {
    const auto got = launch(variables);
    REQUIRE(!got.ok());
    CHECK(got.status().code() == Code::E_CONFIG);
    CHECK_MESSAGE(got.status().message().find(words) != std::string::npos, got.status().message());
}

}  // namespace

TEST_CASE("launch/without_a_launcher_a_process_is_alone") {
    const auto alone = launch({{"PATH", "/bin"}, {"RANK", "0"}});
    REQUIRE(alone.ok());
    CHECK(alone->by.empty());
    CHECK(alone->size == 1);
}

TEST_CASE("launch/torchrun") {
    const auto here = launch({{"RANK", "1"},
                              {"WORLD_SIZE", "4"},
                              {"LOCAL_RANK", "1"},
                              {"LOCAL_WORLD_SIZE", "4"},
                              {"MASTER_ADDR", "gpu7"},
                              {"MASTER_PORT", "29400"}});
    REQUIRE(here.ok());
    CHECK(here->by == "torchrun");
    CHECK(here->rank == 1);
    CHECK(here->size == 4);
    CHECK(here->one_host);
    CHECK(here->port == 29400);
    const auto agent = launch({{"RANK", "5"},
                               {"WORLD_SIZE", "8"},
                               {"LOCAL_RANK", "1"},
                               {"LOCAL_WORLD_SIZE", "4"},
                               {"MASTER_ADDR", "gpu7"},
                               {"MASTER_PORT", "29400"},
                               {"TORCHELASTIC_USE_AGENT_STORE", "True"},
                               {"TORCHELASTIC_RUN_ID", "r17"}});
    REQUIRE(agent.ok());
    CHECK(!agent->one_host);
    CHECK(agent->address == "gpu7");
    CHECK(agent->port == 29401);  // the agent listens at its own
    CHECK(agent->job == "r17");
    CHECK(agent->restart == 0);
    const auto again = launch({{"RANK", "0"},
                               {"WORLD_SIZE", "2"},
                               {"LOCAL_WORLD_SIZE", "2"},
                               {"TORCHELASTIC_RUN_ID", "r17"},
                               {"TORCHELASTIC_RESTART_COUNT", "3"}});
    REQUIRE(again.ok());
    CHECK(again->restart == 3);
}

TEST_CASE("launch/kubeflow_pods_of_one_process_each") {
    const auto pod = launch({{"RANK", "2"},
                             {"WORLD_SIZE", "3"},
                             {"MASTER_ADDR", "job-master-0"},
                             {"MASTER_PORT", "23456"},
                             {"PET_NNODES", "3"},
                             {"PET_NPROC_PER_NODE", "1"}});
    REQUIRE(pod.ok());
    CHECK(pod->rank == 2);
    CHECK(!pod->one_host);
    CHECK(pod->address == "job-master-0");
}

TEST_CASE("launch/mpirun") {
    const Variables mpi{{"OMPI_COMM_WORLD_RANK", "3"},
                        {"OMPI_COMM_WORLD_SIZE", "4"},
                        {"OMPI_COMM_WORLD_LOCAL_RANK", "3"},
                        {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
                        {"PMIX_NAMESPACE", "12345"}};
    const auto here = launch(mpi);
    REQUIRE(here.ok());
    CHECK(here->by == "Open MPI");
    CHECK(here->rank == 3);
    CHECK(here->one_host);
    CHECK(!here->address_is_given);
    Variables other = mpi;
    other["PMIX_NAMESPACE"] = "12346";
    CHECK(launch(other)->port != here->port);
    const auto pmi = launch({{"PMI_RANK", "0"}, {"PMI_SIZE", "2"}});
    REQUIRE(pmi.ok());
    CHECK(pmi->by == "PMI");
}

TEST_CASE("launch/mpirun_under_slurm_inherits_variables_that_are_not_about_it") {
    const auto both = launch({{"OMPI_COMM_WORLD_RANK", "1"},
                              {"OMPI_COMM_WORLD_SIZE", "2"},
                              {"SLURM_PROCID", "0"},
                              {"SLURM_STEP_NUM_TASKS", "1"},
                              {"SLURM_JOB_ID", "7"}});
    REQUIRE(both.ok());
    CHECK(both->by == "Open MPI");
    CHECK(both->rank == 1);
    const auto torch = launch({{"RANK", "3"},
                               {"WORLD_SIZE", "8"},
                               {"LOCAL_WORLD_SIZE", "4"},
                               {"MASTER_ADDR", "n1"},
                               {"SLURM_PROCID", "0"},
                               {"SLURM_STEP_NUM_TASKS", "2"}});
    REQUIRE(torch.ok());
    CHECK(torch->by == "torchrun");
    CHECK(torch->size == 8);
}

TEST_CASE("launch/slurm") {
    const Variables step{{"SLURM_PROCID", "2"},
                         {"SLURM_STEP_NUM_TASKS", "4"},
                         {"SLURM_LOCALID", "0"},
                         {"SLURM_JOB_ID", "991"},
                         {"SLURM_STEP_ID", "0"},
                         {"SLURM_STEP_NUM_NODES", "2"},
                         {"SLURM_STEP_NODELIST", "gpu[07-08]"}};
    const auto task = launch(step);
    REQUIRE(task.ok());
    CHECK(task->by == "Slurm");
    CHECK(task->address == "gpu07");
    CHECK(!task->one_host);
    Variables later = step;
    later["SLURM_STEP_ID"] = "1";
    CHECK(launch(later)->port != task->port);
    // A program in a batch script that srun did not start is alone, whatever the script was given.
    CHECK(launch({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}, {"SLURM_JOB_ID", "991"}})->size == 1);
    for (const auto& [list, host] : std::map<std::string, std::string>{
             {"a", "a"},
             {"a,b", "a"},
             {"n[3,5]", "n3"},
             {"n[03-05,9],x", "n03"},
             {"n[1-2]-ib", "n1-ib"},
             {"x,n[1-2]", "x"},
             {"n[7", "n7"},
             {"", ""},
         })
        CHECK(first_host(list) == host);
}

TEST_CASE("launch/what_contradicts_itself_is_refused_by_name") {
    refuses({{"WORLD_SIZE", "4"}}, "WORLD_SIZE is 4, but RANK is not set");
    refuses({{"RANK", "4"}, {"WORLD_SIZE", "4"}}, "RANK 4 must be below WORLD_SIZE 4");
    refuses({{"RANK", "one"}, {"WORLD_SIZE", "4"}}, "RANK: must be a number");
    refuses({{"RANK", "0"}, {"WORLD_SIZE", "4"}}, "MASTER_ADDR is not set");
    refuses({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "x"}, {"MASTER_PORT", "0"}}, "MASTER_PORT: must be 1 to 65000");
    refuses({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"LOCAL_RANK", "2"}, {"LOCAL_WORLD_SIZE", "2"}, {"MASTER_ADDR", "x"}},
            "LOCAL_RANK 2 must be below");
    refuses({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "x"}, {"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "2"}},
            "one of them must go");
    refuses({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "x"}, {"PET_NPROC_PER_NODE", "8"}}, "seem to count nodes");
}
