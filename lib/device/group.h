// Groups of ranks whose memory lies on devices. A call queues its work on the rank's device and returns; that it failed, or that another
// rank did not come, is what the next call that waits for the device answers. One thread a rank calls, as one does for all that a device
// does.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "comm/world.h"
#include "device/device.h"

namespace ds {

// Ranks of this process, one on each device; the devices outlive the ends. name and ranks, those of the job: for messages.
std::vector<std::unique_ptr<Communicator>> device_group(std::string name, std::vector<int> ranks, const std::vector<Device*>& devices,
                                                        std::chrono::milliseconds deadline);

// The ends of those members of a group over several processes that live in this one. devices: theirs. id: as device_group_id made it in the
// process of the first member. Messages between processes go through the hosts.
std::vector<std::unique_ptr<Communicator>> device_group(const std::shared_ptr<World>& world, const std::string& name,
                                                        const std::vector<Member>& members, const std::vector<Device*>& devices,
                                                        int channel, const BackendGroupId& id);

}  // namespace ds
