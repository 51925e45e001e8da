// Contents cross as dsrt::Memory (host.hpp), which each language maps to its own kind of buffer.
%ignore dsrt::Tensor::Tensor(ds_tensor*);
%ignore dsrt::Tensor::Tensor(DType, const Shape&, const void*, size_t);
%ignore dsrt::Tensor::Tensor(DType, const Shape&);
%ignore dsrt::Tensor::of;
%ignore dsrt::Tensor::read;
%ignore dsrt::Tensor::read_into;
%ignore dsrt::Tensor::dtype;
%ignore dsrt::Tensor::get;
#ifndef SWIGPYTHON
%ignore dsrt::Tensor::from_dlpack;
%ignore dsrt::Tensor::to_dlpack;
%ignore dsrt::Tensor::from_dlpack_legacy;
%ignore dsrt::Tensor::to_dlpack_legacy;
#endif
%extend dsrt::Tensor {
#ifdef SWIGPYTHON
    Tensor(int32_t dtype, const dsrt::Shape& shape) { return new dsrt::Tensor(static_cast<dsrt::DType>(dtype), shape); }
    Tensor(int32_t dtype, const dsrt::Shape& shape, dsrt::Memory from) {
        return new dsrt::Tensor(static_cast<dsrt::DType>(dtype), shape, from.data, from.bytes);
    }
#endif
    int32_t kind() const { return static_cast<int32_t>($self->dtype()); }
    void copy_out(int32_t dtype, dsrt::Memory into) const { $self->read_into(static_cast<dsrt::DType>(dtype), into.data, into.bytes); }
}
