%ignore dsrt::Batch::Batch(ds_batch*);
%ignore dsrt::Batch::get;
%ignore dsrt::Batch::release;
%ignore dsrt::Batch::holds;
%ignore dsrt::Batch::set;  // it answers the batch itself, which would be a second proxy of one object
%rename(get) dsrt::Batch::operator[];
%extend dsrt::Batch {
    void put(const std::string& name, const dsrt::Tensor& t) { $self->set(name, t); }
}
