%ignore dsrt::Data::get;
%ignore dsrt::DataFunctions;
#ifndef SWIGPYTHON
%ignore dsrt::Data::Data(DataFunctions, const Engine*);
#endif
