%ignore dsrt::Tokenizer::get;
%ignore dsrt::TextStream::get;
%ignore dsrt::TextStream::put;
%ignore dsrt::Tokenizer::decode;
%ignore dsrt::Encoding::ids;
%ignore dsrt::Encoding::type_ids;
%ignore dsrt::Encoding::offsets;
#ifdef SWIGPYTHON
%extend dsrt::Encoding {
    std::vector<int32_t> token_ids() const { return $self->ids; }
    std::vector<int32_t> segment_ids() const { return $self->type_ids; }
    std::vector<int64_t> begin_end() const {
        std::vector<int64_t> flat;
        for (const auto& [begin, end] : $self->offsets) flat.insert(flat.end(), {begin, end});
        return flat;
    }
}
%extend dsrt::Tokenizer {
    std::string text(const std::vector<int32_t>& ids, bool skip_special) const { return $self->decode(ids, skip_special); }
}
%extend dsrt::TextStream {
    std::string piece(const std::vector<int32_t>& ids) { return $self->put(ids); }
}
#endif
