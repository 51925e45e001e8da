// Texts as UTF-8, null where C++ has none; memory as a struct of address and length.
%typemap(ctype) const std::optional<std::string>& "const char *"
%typemap(imtype) const std::optional<std::string>& "string"
%typemap(cstype) const std::optional<std::string>& "string"
%typemap(csin) std::string, const std::string&, const std::optional<std::string>& "Dsrt.Native.Text($csinput)"
%typemap(in) const std::optional<std::string>& (std::optional<std::string> text) %{
    if ($input) text = $input;
    $1 = &text;
%}
%typemap(ctype, out="dsrt::Memory") dsrt::Memory "dsrt::Memory"
%typemap(imtype) dsrt::Memory "Dsrt.Memory"
%typemap(cstype) dsrt::Memory "Dsrt.Memory"
%typemap(csin) dsrt::Memory "$csinput"
%typemap(csout, excode=SWIGEXCODE) dsrt::Memory {
    Dsrt.Memory lent = $imcall;$excode
    return lent;
  }
%typemap(in) dsrt::Memory %{ $1 = $input; %}
%typemap(out) dsrt::Memory %{ $result = $1; %}

// The inner layer is not for users of the assembly.
%typemap(csclassmodifiers) SWIGTYPE "internal class"
%pragma(csharp) moduleclassmodifiers="internal class"
%pragma(csharp) imclassclassmodifiers="internal class"
