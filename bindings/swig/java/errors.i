// A failure is thrown as a DsrtException with code and words; what Java code in a callback threw is kept by the Java layer.
%{
namespace {
void throw_dsrt(JNIEnv* jenv, int32_t code, const char* message) {
    if (jenv->ExceptionCheck()) return;
    jclass type = jenv->FindClass("io/dsrt/DsrtException");
    jmethodID of = type ? jenv->GetStaticMethodID(type, "of", "(I[B)Lio/dsrt/DsrtException;") : nullptr;
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
