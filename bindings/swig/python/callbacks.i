// Python callables as the std::function types of dsrt.hpp.
%{
namespace {

// A reference that threads without the GIL may copy and drop.
class Callable {
public:
    explicit Callable(PyObject* f) : f_(f) { Py_INCREF(f); }
    Callable(const Callable& other) : f_(other.f_) {
        Gil gil;
        Py_INCREF(f_);
    }
    Callable& operator=(const Callable&) = delete;
    ~Callable() {
        if (!Py_IsInitialized()) return;  // the process ends
        Gil gil;
        Py_DECREF(f_);
    }
    // Calls f; the arguments' references are stolen. An exception of Python becomes a PythonError. Holds the GIL already.
    template <class... Args>
    PyObject* operator()(Args*... args) const {
        PyObject* list[] = {args...};
        PyObject* tuple = PyTuple_New(sizeof...(args));
        bool complete = tuple != nullptr;
        Py_ssize_t i = 0;
        for (PyObject* a : list) {
            complete = complete && a;
            if (tuple) PyTuple_SET_ITEM(tuple, i++, a); else Py_XDECREF(a);
        }
        PyObject* result = complete ? PyObject_CallObject(f_, tuple) : nullptr;
        Py_XDECREF(tuple);
        if (!result) throw PythonError();
        return result;
    }

private:
    PyObject* f_;
};

// Floats that belong to the library, for the time of a callback: the view is released afterwards, so that Python can't keep it.
class Floats {
public:
    Floats(const float* p, size_t n, int flags) {
        static char nothing;  // a memoryview wants an address
        char* at = n ? reinterpret_cast<char*>(const_cast<float*>(p)) : &nothing;
        view_ = PyMemoryView_FromMemory(at, static_cast<Py_ssize_t>(n * sizeof(float)), flags);
    }
    ~Floats() {
        if (!view_) return;
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        Py_XDECREF(PyObject_CallMethod(view_, "release", nullptr));
        PyErr_Clear();  // an array of numpy still holds it
        PyErr_Restore(type, value, traceback);
        Py_DECREF(view_);
    }
    PyObject* share() {
        Py_XINCREF(view_);
        return view_;
    }

private:
    PyObject* view_ = nullptr;
};

PyObject* text_of(const char* s) { return PyUnicode_DecodeUTF8(s, static_cast<Py_ssize_t>(strlen(s)), "replace"); }

}  // namespace
%}

%typemap(typecheck, precedence=SWIG_TYPECHECK_POINTER) dsrt::LogFunction, dsrt::TokenFunction, dsrt::RowTokensFunction { $1 = $input == Py_None || PyCallable_Check($input); }
%typemap(typecheck, precedence=SWIG_TYPECHECK_POINTER) dsrt::DataFunctions { $1 = PyTuple_Check($input); }
%typemap(in) dsrt::LogLevel { $1 = static_cast<dsrt::LogLevel>(PyLong_AsLong($input)); if (PyErr_Occurred()) SWIG_fail; }

%typemap(in) dsrt::LogFunction {
    if ($input != Py_None) $1 = [f = Callable($input)](dsrt::LogLevel level, const char* component, const char* message) {
        Gil gil;
        Py_DECREF(f(PyLong_FromLong(static_cast<long>(level)), text_of(component), text_of(message)));
    };
}

%{
namespace {
PyObject* list_of(dsrt::Span<int32_t> ids) {
    PyObject* list = PyList_New(static_cast<Py_ssize_t>(ids.size()));
    for (size_t i = 0; list && i < ids.size(); ++i) PyList_SET_ITEM(list, static_cast<Py_ssize_t>(i), PyLong_FromLong(ids[i]));
    return list;
}
bool goes_on(PyObject* answer) {  // steals it
    const bool on = answer != Py_False;
    Py_DECREF(answer);
    return on;
}
}  // namespace
%}
%typemap(in) dsrt::TokenFunction {
    if ($input != Py_None) $1 = [f = Callable($input)](dsrt::Span<int32_t> ids) {
        Gil gil;
        return goes_on(f(list_of(ids)));
    };
}
%typemap(in) dsrt::RowTokensFunction {
    if ($input != Py_None) $1 = [f = Callable($input)](size_t row, dsrt::Span<int32_t> ids) {
        Gil gil;
        return goes_on(f(PyLong_FromSize_t(row), list_of(ids)));
    };
}

// A tuple (floats an element, callable).
%typemap(in) (int32_t floats_per_element, dsrt::OptimizerFunction update) {
    PyObject* update;
    if (!PyArg_ParseTuple($input, "iO", &$1, &update)) SWIG_fail;
    $2 = [f = Callable(update), floats = static_cast<size_t>($1 > 0 ? $1 : 0)](const char* parameter, int64_t step, double lr, float* weight,
                                                                            const float* gradient, float* state, size_t n) {
        Gil gil;
        Floats w(weight, n, PyBUF_WRITE), g(gradient, n, PyBUF_READ), s(state, n * floats, PyBUF_WRITE);
        Py_DECREF(f(text_of(parameter), PyLong_FromLongLong(step), PyFloat_FromDouble(lr), w.share(), g.share(), s.share()));
    };
}

// A tuple (next, save or None, restore or None); next(batch) answers False at the end of an epoch.
%typemap(in) dsrt::DataFunctions {
    PyObject *next, *save, *restore;
    if (!PyArg_ParseTuple($input, "OOO", &next, &save, &restore)) SWIG_fail;
    $1.next = [f = Callable(next)](dsrt::Batch& batch) {
        Gil gil;
        PyObject* answer = f(SWIG_NewPointerObj(&batch, SWIGTYPE_p_dsrt__Batch, 0));
        const bool more = answer != Py_False;
        Py_DECREF(answer);
        return more;
    };
    if (save != Py_None) $1.save = [f = Callable(save)]() {
        Gil gil;
        PyObject* answer = f();
        Py_ssize_t size = 0;
        const char* text = PyUnicode_AsUTF8AndSize(answer, &size);
        const std::string json = text ? std::string(text, static_cast<size_t>(size)) : std::string();
        Py_DECREF(answer);
        if (!text) throw PythonError();
        return json;
    };
    if (restore != Py_None) $1.restore = [f = Callable(restore)](const std::string& cursor) {
        Gil gil;
        Py_DECREF(f(text_of(cursor.c_str())));
    };
}
