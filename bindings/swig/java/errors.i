// A failure is thrown as what the Java layer makes of its code and words: a DsrtException, or what the log threw. What Java code in another
// callback threw is kept by that layer.
%{
namespace {
void throw_dsrt(JNIEnv* jenv, int32_t code, const char* message) {
    if (jenv->ExceptionCheck()) return;
    jclass type = jenv->FindClass("io/dsrt/DsrtException");
    jmethodID of = type ? jenv->GetStaticMethodID(type, "of", "(I[B)Ljava/lang/Throwable;") : nullptr;
    const jsize n = static_cast<jsize>(strlen(message));
    jbyteArray text = of ? jenv->NewByteArray(n) : nullptr;
    if (!text) return;
    jenv->SetByteArrayRegion(text, 0, n, reinterpret_cast<const jbyte*>(message));
    if (auto error = static_cast<jthrowable>(jenv->CallStaticObjectMethod(type, of, static_cast<jint>(code), text))) jenv->Throw(error);
}
}  // namespace
%}
%exception {
    try {
        $action
    } catch (const dsrt::Error& e) {
        throw_dsrt(jenv, e.code(), e.what());
        return $null;
    } catch (const std::bad_alloc&) {
        throw_dsrt(jenv, DS_E_OUT_OF_MEMORY, "memory could not be allocated");
        return $null;
    } catch (const std::exception& e) {
        throw_dsrt(jenv, DS_E_INVALID_ARGUMENT, e.what());
        return $null;
    }
}
