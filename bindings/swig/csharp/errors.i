// A failure is thrown as what the C# layer makes of its code and words: a DsrtException, or what the log threw. C++ calls a function of C# for it.
%insert(runtime) %{
typedef void(SWIGSTDCALL* DsrtThrow)(int32_t, const char*);
static DsrtThrow dsrt_throw = nullptr;
extern "C" SWIGEXPORT void SWIGSTDCALL dsrt_register_throw(DsrtThrow thrower) { dsrt_throw = thrower; }
%}
%pragma(csharp) imclasscode=%{
  class Thrower {
    public delegate void Throw(int code, string message);
    static readonly Throw thrower = (code, message) => SWIGPendingException.Set(Dsrt.DsrtException.Of(code, message));
    [global::System.Runtime.InteropServices.DllImport("$dllimport", EntryPoint="dsrt_register_throw")]
    static extern void Register(Throw thrower);
    static Thrower() { Register(thrower); }
    public static readonly Thrower Made = new Thrower();
  }
  static readonly Thrower registered = Thrower.Made;
%}
%exception %{
    try {
        $action
    } catch (const dsrt::Error& e) {
        dsrt_throw(e.code(), e.what());
    } catch (const std::bad_alloc&) {
        dsrt_throw(DS_E_OUT_OF_MEMORY, "memory could not be allocated");
    } catch (const std::exception& e) {
        dsrt_throw(DS_E_INVALID_ARGUMENT, e.what());
    }
%}
%feature("except:canthrow", "1");
