// Texts as UTF-8 bytes (JNI's own strings are not UTF-8 beyond the basic plane), null where C++ has none; memory as direct ByteBuffers.
%{
namespace {
std::string text_from(JNIEnv* jenv, jbyteArray bytes) {
    std::string text(static_cast<size_t>(jenv->GetArrayLength(bytes)), '\0');
    jenv->GetByteArrayRegion(bytes, 0, static_cast<jsize>(text.size()), reinterpret_cast<jbyte*>(text.data()));
    return text;
}
jbyteArray text_to(JNIEnv* jenv, const std::string& text) {
    jbyteArray bytes = jenv->NewByteArray(static_cast<jsize>(text.size()));
    if (bytes) jenv->SetByteArrayRegion(bytes, 0, static_cast<jsize>(text.size()), reinterpret_cast<const jbyte*>(text.data()));
    return bytes;
}
}  // namespace
%}
%typemap(jni) std::string, const std::string&, const std::optional<std::string>& "jbyteArray"
%typemap(jtype) std::string, const std::string&, const std::optional<std::string>& "byte[]"
%typemap(jstype) std::string, const std::string&, const std::optional<std::string>& "String"
%typemap(javain) std::string, const std::string&, const std::optional<std::string>& "io.dsrt.swig.Bridge.bytes($javainput)"
%typemap(javaout) std::string, const std::string& { return io.dsrt.swig.Bridge.text($jnicall); }
%typemap(in) const std::string& (std::string text) %{
    if (!$input) {
        SWIG_JavaThrowException(jenv, SWIG_JavaNullPointerException, "null String");
        return $null;
    }
    text = text_from(jenv, $input);
    $1 = &text;
%}
%typemap(in) const std::optional<std::string>& (std::optional<std::string> text) %{
    if ($input) text = text_from(jenv, $input);
    $1 = &text;
%}
%typemap(out) std::string %{ $result = text_to(jenv, $1); %}
%typemap(out) const std::string& %{ $result = text_to(jenv, *$1); %}
%typemap(directorin, descriptor="Ljava/lang/String;") const std::string& %{
    $input = text_to(jenv, $1);
    Swig::LocalRefGuard $1_refguard(jenv, $input);
%}
%typemap(javadirectorin) const std::string& "io.dsrt.swig.Bridge.text($jniinput)"

%typemap(jni) dsrt::Memory "jobject"
%typemap(jtype) dsrt::Memory "java.nio.ByteBuffer"
%typemap(jstype) dsrt::Memory "java.nio.ByteBuffer"
%typemap(javain) dsrt::Memory "$javainput"
%typemap(javaout) dsrt::Memory { return io.dsrt.swig.Bridge.ordered($jnicall); }
%typemap(in) dsrt::Memory %{
    if ($input) $1 = dsrt::Memory{jenv->GetDirectBufferAddress($input), static_cast<size_t>(jenv->GetDirectBufferCapacity($input))};
%}
%typemap(out) dsrt::Memory %{
    static char nothing;
    $result = jenv->NewDirectByteBuffer($1.data ? $1.data : &nothing, static_cast<jlong>($1.bytes));
%}

// The layer above frees with Cleaners.
%typemap(javafinalize) SWIGTYPE ""
%pragma(java) jniclasscode=%{
  static {
    Bridge.load();
  }
%}
