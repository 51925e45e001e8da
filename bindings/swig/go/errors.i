// A failure is kept for the thread, and fetched by the Go layer, which is locked to the thread meanwhile: Go can't unwind through C++.
%{
namespace {
struct Failure {
    int32_t code = 0;
    std::string message;
};
Failure& failure() {
    thread_local Failure kept;
    return kept;
}
void fail_with(int32_t code, const char* message) {
    failure().code = code;
    failure().message = message;
}
}  // namespace
%}
%exception {
    try {
        $action
    } catch (const dsrt::Error& e) {
        fail_with(e.code(), e.what());
    } catch (const std::bad_alloc&) {
        fail_with(DS_E_OUT_OF_MEMORY, "memory could not be allocated");
    } catch (const std::exception& e) {
        fail_with(DS_E_INVALID_ARGUMENT, e.what());
    }
}
%inline %{
namespace dsrt {
// The code of this thread's last failure, or 0, which it is from then on.
inline int32_t failed_code() { return std::exchange(failure().code, 0); }
inline std::string failed_message() { return failure().message; }
}
%}
