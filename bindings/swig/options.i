// The setters answer the options themselves, for chains in C++; here they answer nothing.
%ignore dsrt::Cancel::get;
%ignore dsrt::Options::get;
%ignore dsrt::Options::graph;
%ignore dsrt::Options::cancel;
%ignore dsrt::Options::mpi;
%ignore dsrt::Options::optimizer;
%ignore dsrt::Options::communicator;  // C functions with pointers to memory
%extend dsrt::Options {
    void set_graph(const dsrt::Graph& g) { $self->graph(g); }
    void set_cancel(const dsrt::Cancel& c) { $self->cancel(c); }
    void set_mpi(int32_t fortran_comm) { $self->mpi(fortran_comm); }
#ifdef SWIGPYTHON
    void set_optimizer(int32_t floats_per_element, dsrt::OptimizerFunction update) { $self->optimizer(floats_per_element, std::move(update)); }
#endif
}
