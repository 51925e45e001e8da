// The rows of a batch among the processes of a job.
#include <algorithm>

#include "ckpt/durable_file.h"
#include "engine/job.h"

namespace ds {
namespace {

std::string checksum_of(const Batch& batch) {
    Checksum sum;
    for (const auto& [name, tensor] : batch) {
        const std::string head = fmt::format("{} {} {}\n", name, name_of(tensor.dtype), tensor.shape);
        sum.update(std::as_bytes(std::span(head)));
        sum.update({static_cast<const std::byte*>(tensor.data), static_cast<size_t>(tensor.bytes())});
    }
    return sum.hex();
}

}  // namespace

// Rows that every process was given fall to data ranks as they would in one process; where some rank would have none, every process
// computes all of them.
Interval Job::rows_of_process(int64_t rows, int process) const {
    const std::vector<int> its = ranks_->data_ranks(process);
    const int64_t all = ranks_->extent(MeshAxis::data);
    if (!world_ || rows < all) return {0, rows};
    return {near_even(rows, its.front(), all).begin, near_even(rows, its.back(), all).end};
}

Result<HostTensor> Job::of_all_rows(std::string_view call, const HostTensor& mine, int64_t rows) const {
    const std::vector<int> holders = ranks_->row_holders();
    if (holders.size() == 1 || own_rows(rows).size() == rows) return mine;
    const auto row_bytes = static_cast<size_t>(mine.bytes() / own_rows(rows).size());
    std::vector<size_t> bytes(static_cast<size_t>(world_->processes()), 0);
    for (const int p : holders) bytes[static_cast<size_t>(p)] = row_bytes * static_cast<size_t>(rows_of_process(rows, p).size());
    DS_TRY(const std::vector<std::string> parts,
           collect(call, {static_cast<const char*>(mine.data), static_cast<size_t>(mine.bytes())}, bytes));
    Shape shape = mine.shape;
    shape[0] = rows;
    HostTensor all = HostTensor::zeros(mine.dtype, std::move(shape));
    auto* to = static_cast<char*>(all.data);
    for (const int p : holders) to = std::copy_n(parts[static_cast<size_t>(p)].data(), parts[static_cast<size_t>(p)].size(), to);
    return all;
}

Result<int64_t> Job::agree_on_rows(std::string_view call, const Batch& batch, const Result<int64_t>& rows, bool all_take_part,
                                   bool& wants_loss) const {
    DS_TRY(const std::vector<Json> said_by,
           hear(call, rows.status(), {{"rows", rows.ok() ? *rows : 0}, {"batch", checksum_of(batch)}, {"wants_loss", wants_loss}}));
    std::vector<int64_t> rows_of_data(static_cast<size_t>(ranks_->extent(MeshAxis::data)), 0);
    std::map<int, size_t> who;  // the first process of each data rank
    for (size_t p = 0; p < said_by.size(); ++p) {
        const Json& other = said_by[p];
        wants_loss |= other["wants_loss"].get<bool>();
        // A data rank without rows computes along on another's, which must be of the same process.
        if (all_take_part && other["rows"] == 0 && ranks_->extent(MeshAxis::data) > 1)
            return fail(Code::E_INVALID_ARGUMENT,
                        "{}: process {} has no rows, but all processes must take part in a pass: ZeRO 2 and 3, experts and statistics of a "
                        "batch exchange in it",
                        call, p);
        const std::vector<int> data = ranks_->data_ranks(static_cast<int>(p));
        const auto [known, fresh] = who.try_emplace(data.front(), p);
        if (!fresh && said_by[known->second]["batch"] != other["batch"])
            return fail(Code::E_INVALID_ARGUMENT,
                        "{}: the processes {} and {} share data rank {} but were given different batches; they must pass the same rows",
                        call, known->second, p, data.front());
        for (size_t i = 0; i < data.size(); ++i)
            rows_of_data[static_cast<size_t>(data[i])] =
                near_even(other["rows"].get<int64_t>(), static_cast<int64_t>(i), static_cast<int64_t>(data.size())).size();
    }
    int64_t first = 0;
    for (int d = 0; d < ranks_->data_ranks().front(); ++d) first += rows_of_data[static_cast<size_t>(d)];
    return first;
}

Status Job::share_figures(std::string_view call, std::vector<Packed>& packed, const Status& mine) const {
    if (static_cast<size_t>(ranks_->extent(MeshAxis::data)) == ranks_->data_ranks().size()) return ok();  // every process packs all rows
    Json parts = Json::array();
    if (mine.ok())
        for (const int d : ranks_->data_ranks()) {
            const Packed& p = packed[static_cast<size_t>(d)];
            parts.push_back({d, p.shape.rows, p.grid.empty() ? p.shape.rows : p.grid[0], p.label_count, p.part_weight, p.labels ? 1 : 0,
                             p.tokens, p.shape.tokens});
        }
    DS_TRY(const std::vector<Json> all, hear(call, mine, {{"parts", std::move(parts)}}));
    const std::vector<int> here = ranks_->data_ranks();
    for (const Json& other : all)
        for (const Json& part : other["parts"]) {
            const int d = part[0].get<int>();
            if (std::find(here.begin(), here.end(), d) != here.end()) continue;
            Packed& to = packed[static_cast<size_t>(d)];
            to.shape.rows = part[1].get<int64_t>();
            to.grid = {part[2].get<int64_t>()};
            to.label_count = part[3].get<int64_t>();
            to.part_weight = part[4].get<int64_t>();
            to.labels = part[5].get<int>() != 0;
            to.shape.labels = to.labels;
            to.tokens = part[6].get<int64_t>();
            to.shape.tokens = part[7].get<int64_t>();
        }
    const auto first_with = [&](bool labels) {
        return std::find_if(packed.begin(), packed.end(), [&](const Packed& p) { return p.shape.rows > 0 && p.labels == labels; }) -
               packed.begin();
    };
    const auto with = first_with(true), without = first_with(false), ranks = static_cast<ptrdiff_t>(packed.size());
    if (with < ranks && without < ranks)
        return fail(Code::E_INVALID_ARGUMENT, "{}: the rows of data rank {} have labels, but those of data rank {} have none", call, with,
                    without);
    return ok();
}

Status Job::share_outputs(std::map<int, OutputPart>& parts, bool& nobody_has_it) const {
    Json said = Json::array();
    for (const auto& [d, part] : parts) said.push_back({d, part.stage, part.value.shape});
    DS_TRY(const std::vector<std::string> all, world_->exchange("ds_output", said.dump()));
    std::map<int, std::pair<int, Shape>> holders;  // of each data rank: the stage that has its rows, and their shape
    for (const std::string& text : all)
        for (const Json& part : Json::parse(text)) holders[part[0].get<int>()] = {part[1].get<int>(), part[2].get<Shape>()};
    nobody_has_it = holders.empty();
    const Mesh& mesh = ranks_->mesh();
    const int here = ranks_->size(), me = world_->process();
    constexpr int64_t tag = int64_t{1} << 34;
    for (int p = 0; p < world_->processes(); ++p)
        for (const auto& [d, held] : holders) {
            // The first rank of process p that works for this data rank gets it from the rank beside it in that stage.
            Coordinates to{};
            bool works = false, has = false;
            for (int i = here - 1; i >= 0; --i) {
                const Coordinates place = mesh.place(p * here + i);
                if (ds::at(place, MeshAxis::data) != d) continue;
                to = place, works = true;
                has |= ds::at(place, MeshAxis::pipeline) == held.first;
            }
            if (!works || has) continue;
            Coordinates from = to;
            from[static_cast<size_t>(MeshAxis::pipeline)] = held.first;
            const auto line = [&](const Coordinates& place) -> Communicator& {
                return ranks_->at(place).links.axis[static_cast<size_t>(MeshAxis::pipeline)]->for_host_memory();
            };
            if (p == me) {
                parts[d] = {held.first, HostTensor::zeros(DType::f32, held.second)};
                DS_CHECK(line(to).receive(held.first, tag, {parts[d].value.data, parts[d].value.bytes()}));
            } else if (mesh.rank(from) / here == me) {
                DS_CHECK(line(from).send(ds::at(to, MeshAxis::pipeline), tag, {parts.at(d).value.data, parts.at(d).value.bytes()}));
            }
        }
    if (world_->wants_caller()) world_->serve([] { return true; });
    return ok();
}

}  // namespace ds
