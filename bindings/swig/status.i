// Errors are the languages' own; codes and levels travel as numbers.
%ignore dsrt::Error;
%ignore dsrt::Outcome;
%ignore dsrt::detail::check;
%ignore dsrt::detail::pending;
%ignore dsrt::detail::Thrown;
%ignore dsrt::detail::text_of;
%ignore dsrt::detail::or_null;
%ignore dsrt::detail::c_text;
%ignore dsrt::detail::kind;
%ignore dsrt::detail::closed;
%ignore dsrt::detail::call;
%ignore dsrt::detail::release;
%ignore dsrt::detail::Handle;
%ignore dsrt::detail::TypeCode;
%ignore dsrt::Span;
#ifndef SWIGPYTHON
%ignore dsrt::set_log;
%ignore dsrt::DType;  // numbers; each language's own layer names them
%ignore dsrt::What;
%ignore dsrt::LogLevel;
#endif
%inline %{
namespace dsrt {
inline std::string status_name(int32_t code) { return ds_status_name(code); }
}
%}
