// What adapters add to an engine: their weights from folders, changing the active one, and their files.
#include <algorithm>
#include <cmath>

#include "base/file.h"
#include "base/log.h"
#include "ckpt/safetensors.h"
#include "engine/engine.h"

namespace ds {

// The weights of an adapter that was not active before: its file's, or fresh ones; what its file lacks changes nothing.
Status Engine::load_adapter(const std::string& name) {
    const AdapterInfo& info = adapters_->all().at(name);
    std::map<std::string, HostTensor> given;
    if (!info.folder.empty()) { DS_TRY(given, adapters_->read(name)); }
    std::set<std::string> used;
    for (const Param& p : params_->all()) {
        if (const auto found = given.find(p.name); found != given.end()) {
            if (found->second.shape != p.shape)
                return fail(Code::E_CORRUPT, "lora.adapters: {}: tensor {} is {}, but the model makes it {}", info.folder, p.name,
                            found->second.shape, p.shape);
            if (!p.trainable)
                return fail(Code::E_CORRUPT, "lora.adapters: {}: it has {}, but neither its bias nor its modules_to_save says so",
                            info.folder, p.name);
            DS_CHECK(whole_->write(p, {Field::weight}, found->second.as<float>().data()));
            job_.note_loaded(p, found->second.as<float>().data());
            used.insert(p.name);
        } else if (is_adapter_tensor(p.name)) {
            HostTensor fresh = HostTensor::zeros(DType::f32, p.shape);
            const bool is_a = p.name.ends_with(".lora_A.weight");
            if (info.folder.empty() && is_a)
                ds::initialise(p, static_cast<uint64_t>(config_.seed) + std::hash<std::string>()(name), 0, info.r * p.shape[1],
                               fresh.as<float>().data());
            DS_CHECK(whole_->write(p, {Field::weight}, fresh.as<float>().data()));
            job_.note_loaded(p, fresh.as<float>().data());
        }
    }
    for (const auto& [tensor, value] : given)
        if (!used.count(tensor))
            return fail(Code::E_CORRUPT, "lora.adapters: {}: tensor {} belongs to no parameter of this model", info.folder, tensor);
    return ok();
}

// Nothing is read from files again: the parameters that adapters have of their own change places with those that waited.
Status Engine::activate_adapter(const std::string& asked) {
    if (!adapters_) return fail(Code::E_STATE, "lora.adapter: this engine has no adapters; the config's \"lora\" makes some");
    const std::string& name = asked.empty() ? adapters_->first() : asked;
    DS_CHECK(adapters_->check(name));
    if (name == adapters_->active()) return ok();
    if (open_.micros > 0)
        return fail(Code::E_STATE, "lora.adapter: {} micro-batches were accumulated for {}; call ds_step or ds_zero_grad first",
                    open_.micros, adapters_->active());
    const bool has_state = (*ranks_)[0].params->has_state();
    auto& kept = adapters_->waiting[adapters_->active()];
    for (const Param& p : params_->all()) {
        if (!p.trainable) continue;
        auto& values = kept.values[p.name];
        values.clear();
        for (const Field& field : fields_of(p, has_state)) {
            values.emplace_back(static_cast<size_t>(WholeParams::count(p, field)));
            DS_CHECK(whole_->read(p, field, values.back().data()));
        }
    }
    const auto waiting = adapters_->waiting.find(name);
    const bool known = waiting != adapters_->waiting.end();
    if (!known) {
        for (const auto& [parameter, value] : trained_base_)
            DS_CHECK(whole_->write(*params_->find(parameter), {Field::weight}, value.data()));
        DS_CHECK(load_adapter(name));
    }
    for (const Param& p : params_->all()) {
        if (!p.trainable) continue;
        const auto fields = fields_of(p, has_state);
        for (size_t i = 0; i < fields.size(); ++i) {
            const bool has = known && i < waiting->second.values[p.name].size();
            if (i == 0 && !has) continue;
            std::vector<float> zeros;
            if (!has) zeros.assign(static_cast<size_t>(WholeParams::count(p, fields[i])), p.state_defs[i - 1].initial);
            DS_CHECK(whole_->write(p, fields[i], has ? waiting->second.values[p.name][i].data() : zeros.data()));
        }
    }
    kept.updates = std::exchange(adapters_->updates, known ? waiting->second.updates : 0);
    if (known) adapters_->waiting.erase(waiting);
    adapters_->activate(name);
    pending_.reset();
    last_.reset();
    return ok();
}

// The active adapter as PEFT loads it: adapter_config.json and adapter_model.safetensors.
Status Engine::export_adapter(const std::filesystem::path& dir, DType dtype) {
    std::vector<HostTensor> values;
    std::vector<NamedTensor> tensors;
    for (const Param& p : params_->all()) {
        if (!p.trainable) continue;
        HostTensor whole = HostTensor::zeros(DType::f32, p.shape);
        DS_CHECK(read_whole("ds_export", p, {Field::weight}, whole.as<float>().data()));
        values.push_back(adapters_->for_file(p.name, whole).to(dtype).clone());
        tensors.push_back({adapters_->file_name(p.name), dtype, values.back().shape, values.back().data, {}});
    }
    DS_CHECK(write_safetensors(dir / "adapter_model.safetensors", tensors));
    return write_file_atomically(dir / "adapter_config.json", adapters_->settings_for_file().dump(1) + "\n");
}

// W with what the active adapter adds to it, in the layout of W.
Result<HostTensor> Engine::merged_weight(const Param& weight) {
    HostTensor whole = HostTensor::zeros(DType::f32, weight.shape);
    DS_CHECK(read_whole("ds_export", weight, {Field::weight}, whole.as<float>().data()));
    const std::string module = weight.name.substr(0, weight.name.size() - std::string_view(".weight").size());
    const Param *a = params_->find(adapter_tensor(module, 'A')), *b = params_->find(adapter_tensor(module, 'B'));
    HostTensor down = HostTensor::zeros(DType::f32, a->shape), up = HostTensor::zeros(DType::f32, b->shape);
    DS_CHECK(read_whole("ds_export", *a, {Field::weight}, down.as<float>().data()));
    DS_CHECK(read_whole("ds_export", *b, {Field::weight}, up.as<float>().data()));
    const auto r = static_cast<size_t>(a->shape[0]), in = static_cast<size_t>(a->shape[1]), out = static_cast<size_t>(b->shape[0]);
    const bool out_first = !adapters_->input_first(module);
    const double scale = adapters_->spec().scale;
    std::vector<double> row(in);
    for (size_t o = 0; o < out; ++o) {
        std::fill(row.begin(), row.end(), 0.0);
        for (size_t k = 0; k < r; ++k)
            for (size_t i = 0; i < in; ++i)
                row[i] += static_cast<double>(up.as<float>()[o * r + k]) * static_cast<double>(down.as<float>()[k * in + i]);
        for (size_t i = 0; i < in; ++i) {
            float& w = whole.as<float>()[out_first ? o * in + i : i * out + o];
            w = static_cast<float>(w + scale * row[i]);
        }
    }
    return whole;
}

}  // namespace ds
