%ignore dsrt::Engine::get() const;
%ignore dsrt::Engine::step;
%ignore dsrt::Engine::train_batch;
%ignore dsrt::Engine::param;
%ignore dsrt::Engine::set_param;
%ignore dsrt::Engine::params;
%ignore dsrt::ParamInfo;
%ignore dsrt::Engine::generate;
%ignore dsrt::Engine::generate_batch;
%ignore dsrt::Engine::generate_text;
%rename(get_json) dsrt::Engine::get(const std::string&) const;
%rename(set_json) dsrt::Engine::set;
%extend dsrt::Engine {
#ifdef SWIGPYTHON
    std::vector<int32_t> continue_prompt(const std::vector<int32_t>& prompt, const std::optional<std::string>& options_json, dsrt::TokenFunction on_token) {
        return $self->generate(prompt, options_json, std::move(on_token));
    }
    std::vector<std::vector<int32_t>> continue_prompts(const std::vector<std::vector<int32_t>>& prompts, const std::optional<std::string>& options_json,
                                                       dsrt::RowTokensFunction on_tokens) {
        return $self->generate_batch(prompts, options_json, std::move(on_tokens));
    }
    dsrt::Params parameters() const { return dsrt::Params{$self->params()}; }
    dsrt::Tensor get_param(const std::string& name, int32_t what) { return $self->param(name, static_cast<dsrt::What>(what)); }
#endif
    int32_t update() { return static_cast<int32_t>($self->step()); }
    dsrt::Trained train(dsrt::Data& data) {
        dsrt::Trained t{};
        t.outcome = static_cast<int32_t>($self->train_batch(data, &t.loss));
        return t;
    }
    void put_param(const std::string& name, int32_t what, const dsrt::Tensor& t) { $self->set_param(name, t, static_cast<dsrt::What>(what)); }
}
