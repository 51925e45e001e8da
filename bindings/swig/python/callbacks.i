// Python callables as the std::function types of dsrt.hpp.
%{
#include <deque>

namespace {

// A reference that threads without the GIL may copy and drop. The garbage collector doesn't see it: a cycle through one lasts until its owner is closed.
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

// Memory that belongs to the library, for the time of a callback: the view is released afterwards, so that Python can't keep it.
class Lent {
public:
    Lent(const void* p, size_t bytes, int flags) {
        static char nothing;  // a memoryview wants an address
        char* at = bytes ? static_cast<char*>(const_cast<void*>(p)) : &nothing;
        view_ = PyMemoryView_FromMemory(at, static_cast<Py_ssize_t>(bytes), flags);
    }
    Lent(const Lent&) = delete;
    ~Lent() {
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

// The values of an op of the host's own: a list of (memory or None, element type, shape).
class Values {
public:
    Values(const dsrt::OpValues& values, int flags) : values_(values) {
        for (const ds_op_value& v : values) {
            size_t bytes = v.dtype == DS_U8 ? 1 : 4;
            for (int32_t d = 0; d < v.ndim; ++d) bytes *= static_cast<size_t>(v.shape[d]);
            lent_.emplace_back(v.data, v.data ? bytes : 0, flags);
        }
    }
    PyObject* list() {
        PyObject* all = PyList_New(static_cast<Py_ssize_t>(values_.size()));
        for (size_t i = 0; all && i < values_.size(); ++i) {
            const ds_op_value& v = values_[i];
            PyObject* shape = PyTuple_New(v.ndim);
            for (int32_t d = 0; shape && d < v.ndim; ++d) PyTuple_SET_ITEM(shape, d, PyLong_FromLongLong(v.shape[d]));
            PyObject* memory = v.data ? lent_[i].share() : Py_None;
            if (!v.data) Py_INCREF(memory);
            PyList_SET_ITEM(all, static_cast<Py_ssize_t>(i), Py_BuildValue("(NiN)", memory, static_cast<int>(v.dtype), shape));
        }
        return all;
    }

private:
    const dsrt::OpValues& values_;
    std::deque<Lent> lent_;
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
// Without a callable: Ctrl-C is noticed.
bool heard_nothing() {
    Gil gil;
    if (PyErr_CheckSignals()) throw PythonError();
    return true;
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
    else $1 = [](dsrt::Span<int32_t>) { return heard_nothing(); };
}
%typemap(in) dsrt::RowTokensFunction {
    if ($input != Py_None) $1 = [f = Callable($input)](size_t row, dsrt::Span<int32_t> ids) {
        Gil gil;
        return goes_on(f(PyLong_FromSize_t(row), list_of(ids)));
    };
    else $1 = [](size_t, dsrt::Span<int32_t>) { return heard_nothing(); };
}

// A tuple (floats an element, callable).
%typemap(in) (int32_t floats_per_element, dsrt::OptimizerFunction update) {
    PyObject* update;
    if (!PyArg_ParseTuple($input, "iO", &$1, &update)) SWIG_fail;
    $2 = [f = Callable(update), floats = static_cast<size_t>($1 > 0 ? $1 : 0)](const char* parameter, int64_t step, double lr, float* weight,
                                                                            const float* gradient, float* state, size_t n) {
        Gil gil;
        Lent w(weight, n * sizeof(float), PyBUF_WRITE), g(gradient, n * sizeof(float), PyBUF_READ), s(state, n * floats * sizeof(float), PyBUF_WRITE);
        Py_DECREF(f(text_of(parameter), PyLong_FromLongLong(step), PyFloat_FromDouble(lr), w.share(), g.share(), s.share()));
    };
}

// A tuple (number of outputs, forward, backward or None, shapes); shapes answers a sequence of sequences of integers.
%typemap(in) dsrt::OpFunctions {
    PyObject *forward, *backward, *shapes;
    if (!PyArg_ParseTuple($input, "iOOO", &$1.outputs, &forward, &backward, &shapes)) SWIG_fail;
    $1.forward = [f = Callable(forward)](const std::string& attributes, const dsrt::OpValues& in, const dsrt::OpValues& out) {
        Gil gil;
        Values inputs(in, PyBUF_READ), outputs(out, PyBUF_WRITE);
        Py_DECREF(f(text_of(attributes.c_str()), inputs.list(), outputs.list()));
    };
    if (backward != Py_None) $1.backward = [f = Callable(backward)](const std::string& attributes, const dsrt::OpValues& in, const dsrt::OpValues& out,
                                                                    const dsrt::OpValues& out_gradients, const dsrt::OpValues& in_gradients) {
        Gil gil;
        Values inputs(in, PyBUF_READ), outputs(out, PyBUF_READ), given(out_gradients, PyBUF_READ), wanted(in_gradients, PyBUF_WRITE);
        Py_DECREF(f(text_of(attributes.c_str()), inputs.list(), outputs.list(), given.list(), wanted.list()));
    };
    $1.shapes = [f = Callable(shapes)](const std::string& attributes, const dsrt::OpValues& in) {
        Gil gil;
        Values inputs(in, PyBUF_READ);
        PyObject* answer = f(text_of(attributes.c_str()), inputs.list());
        std::vector<dsrt::Shape> all;
        PyObject* rows = PySequence_Fast(answer, "shapes must be a sequence of shapes");
        for (Py_ssize_t i = 0; rows && !PyErr_Occurred() && i < PySequence_Fast_GET_SIZE(rows); ++i) {
            PyObject* dims = PySequence_Fast(PySequence_Fast_GET_ITEM(rows, i), "a shape must be a sequence of integers");
            all.emplace_back();
            for (Py_ssize_t d = 0; dims && d < PySequence_Fast_GET_SIZE(dims); ++d) all.back().push_back(PyLong_AsLongLong(PySequence_Fast_GET_ITEM(dims, d)));
            Py_XDECREF(dims);
        }
        Py_XDECREF(rows);
        Py_DECREF(answer);
        if (PyErr_Occurred()) throw PythonError();
        return all;
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
