// "" where C++ has no text; memory as []byte, which is lent for the call when it goes in, and the library's when it comes out.
%typemap(gotype) const std::optional<std::string>& "string"
%typemap(in) const std::optional<std::string>& (std::optional<std::string> text) %{
    if ($input.n) text.emplace($input.p, $input.n);
    $1 = &text;
%}
%typemap(gotype) dsrt::Memory "[]byte"
%typemap(in) dsrt::Memory %{ $1 = dsrt::Memory{$input.array, static_cast<size_t>($input.len)}; %}
%typemap(out) dsrt::Memory %{
    $result.array = $1.data;
    $result.len = $result.cap = static_cast<intgo>($1.bytes);
%}
