%ignore dsrt::Data::get;
%ignore dsrt::DataFunctions;
#ifndef SWIGPYTHON
%ignore dsrt::Data::Data(DataFunctions, const Engine*);
%ignore dsrt::Data::Data(DataFunctions);
#endif
