// What Go, Java and C# see in place of C++'s vectors and functions: numbers and texts as dsrt::Memory, callbacks as objects, and results that
// only move by pointer. Included by dsrt.i for these three.
%feature("director") dsrt::LogSink;
%feature("director") dsrt::TokenSink;
%feature("director") dsrt::RowTokenSink;
%feature("director") dsrt::Updater;
%feature("director") dsrt::BatchSource;
%feature("director") dsrt::HostOp;

%ignore dsrt::optimizer_of;
%ignore dsrt::functions_of;
%ignore dsrt::tokens_of;
%ignore dsrt::row_tokens_of;
%ignore dsrt::Text::text;
%ignore dsrt::Texts::all;
%ignore dsrt::Ids::Ids;
%ignore dsrt::OpCall::OpCall;
%ignore dsrt::OpCall::shapes;
%ignore dsrt::Params::shape;
%ignore dsrt::Tensor::shape;
%ignore dsrt::Batch::operator[];
%ignore dsrt::Tokenizer::encode;
%ignore dsrt::Tokenizer::encode_batch;
%ignore dsrt::Graph::parse;
%ignore dsrt::Graph::ops;
%ignore dsrt::Graph::model;
%ignore dsrt::Engine::output;

%newobject dsrt::Batch::find;
%newobject dsrt::Tokenizer::encode_text;
%newobject dsrt::Tokenizer::encode_texts;
%newobject dsrt::Engine::output_of;
%newobject dsrt::Engine::parameter;
%newobject dsrt::Engine::generated;
%newobject dsrt::Engine::generated_rows;
%newobject dsrt::Engine::parameters_list;
%newobject dsrt::open_source;
%newobject dsrt::parse_graph;
%newobject dsrt::Tensor::zeros;

%extend dsrt::Tensor {
    Tensor(int32_t dtype, dsrt::Memory shape, dsrt::Memory from) {
        return new dsrt::Tensor(static_cast<dsrt::DType>(dtype), dsrt::detail::numbers<int64_t>(shape), from.data, from.bytes);
    }
    static dsrt::Tensor* zeros(int32_t dtype, dsrt::Memory shape) {
        return new dsrt::Tensor(static_cast<dsrt::DType>(dtype), dsrt::detail::numbers<int64_t>(shape));
    }
    dsrt::Memory dims() const {
        int32_t ndim = 0;
        const int64_t* shape = nullptr;
        dsrt::detail::check(ds_tensor_info($self->get(), nullptr, &ndim, &shape));
        return {const_cast<int64_t*>(shape), static_cast<size_t>(ndim) * sizeof(int64_t)};
    }
}
%extend dsrt::Params {
    dsrt::Memory dims(size_t i) const { return dsrt::detail::memory_of($self->info(i).shape); }
}
%extend dsrt::Batch {
    dsrt::Tensor* find(const std::string& name) const { return new dsrt::Tensor((*$self)[name]); }
}
%extend dsrt::Encoding {
    dsrt::Memory id_memory() const { return dsrt::detail::memory_of($self->ids); }
    dsrt::Memory type_memory() const { return dsrt::detail::memory_of($self->type_ids); }
    dsrt::Memory offset_memory() const { return {const_cast<std::pair<int64_t, int64_t>*>($self->offsets.data()), $self->offsets.size() * 16}; }
}
%extend dsrt::Tokenizer {
    dsrt::Encoding* encode_text(const std::string& text, const std::optional<std::string>& pair, bool add_special_tokens) const {
        return new dsrt::Encoding($self->encode(text, pair, add_special_tokens));
    }
    dsrt::Batch* encode_texts(const dsrt::Texts& texts, const dsrt::Texts& pairs, const std::optional<std::string>& options_json) const {
        return new dsrt::Batch($self->encode_batch(texts.all(), pairs.all(), options_json));
    }
    std::string text_of(dsrt::Memory ids, bool skip_special) const { return $self->decode(dsrt::detail::numbers<int32_t>(ids), skip_special); }
}
%extend dsrt::TextStream {
    std::string piece(dsrt::Memory ids) { return $self->put(dsrt::detail::numbers<int32_t>(ids)); }
}
%extend dsrt::Graph {
    int32_t new_input(const std::string& name, int32_t dtype, dsrt::Memory shape) {
        return $self->input(name, static_cast<dsrt::DType>(dtype), dsrt::detail::numbers<int64_t>(shape));
    }
    int32_t new_param(const std::string& name, int32_t dtype, dsrt::Memory shape, const std::optional<std::string>& init_json) {
        return $self->param(name, dsrt::detail::numbers<int64_t>(shape), init_json, static_cast<dsrt::DType>(dtype));
    }
    void call(const std::string& op, dsrt::Memory inputs, const std::optional<std::string>& attrs_json, dsrt::Memory outputs) {
        const auto made = $self->ops(op, dsrt::detail::numbers<int32_t>(inputs), attrs_json, outputs.bytes / sizeof(int32_t));
        if (!made.empty()) std::memcpy(outputs.data, made.data(), outputs.bytes);
    }
    void define(const std::string& name, int32_t outputs, dsrt::HostOp* op) { $self->define_op(name, dsrt::functions_of(op, outputs)); }
    int32_t embed(const std::string& folder, dsrt::Memory inputs, const std::string& output, const std::optional<std::string>& options_json) {
        return $self->model(folder, dsrt::detail::numbers<int32_t>(inputs), output, options_json);
    }
}
%extend dsrt::Options {
    void set_updater(int32_t floats_per_element, dsrt::Updater* updater) { $self->optimizer(floats_per_element, dsrt::optimizer_of(updater)); }
}
%extend dsrt::Engine {
    dsrt::Tensor* output_of(const std::string& name) { return new dsrt::Tensor($self->output(name)); }
    dsrt::Tensor* parameter(const std::string& name, int32_t what) { return new dsrt::Tensor($self->param(name, static_cast<dsrt::What>(what))); }
    dsrt::Params* parameters_list() const { return new dsrt::Params($self->params()); }
    dsrt::Ids* generated(dsrt::Memory prompt, const std::optional<std::string>& options_json, dsrt::TokenSink* sink) {
        return new dsrt::Ids($self->generate(dsrt::detail::numbers<int32_t>(prompt), options_json, dsrt::tokens_of(sink)));
    }
    dsrt::Ids* generated_rows(dsrt::Memory prompts, dsrt::Memory lengths, const std::optional<std::string>& options_json, dsrt::RowTokenSink* sink) {
        return new dsrt::Ids($self->generate_batch(dsrt::detail::rows(prompts, lengths), options_json, dsrt::row_tokens_of(sink)));
    }
}
