%ignore dsrt::OpFunctions;
#ifndef SWIGPYTHON
%ignore dsrt::Graph::define_op;  // define() takes an object (buffers.i)
#endif
%ignore dsrt::Graph::get;
%ignore dsrt::Graph::op;  // ops() with one output
%ignore dsrt::Graph::input;
%ignore dsrt::Graph::param;
#ifdef SWIGPYTHON
%extend dsrt::Graph {
    int32_t add_input(const std::string& name, int32_t dtype, const dsrt::Shape& shape) {
        return $self->input(name, static_cast<dsrt::DType>(dtype), shape);
    }
    int32_t add_param(const std::string& name, int32_t dtype, const dsrt::Shape& shape, const std::optional<std::string>& init_json) {
        return $self->param(name, shape, init_json, static_cast<dsrt::DType>(dtype));
    }
}
#endif
