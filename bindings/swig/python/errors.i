// A dsrt::Error is raised as the class that dsrt.errors has for its code; what a callback raised comes back as it was.
%{
namespace {

struct Gil {  // held while this lives; legal whether or not the thread holds it already
    PyGILState_STATE state = PyGILState_Ensure();
    ~Gil() { PyGILState_Release(state); }
};

// An exception of Python on its way through C++.
class PythonError {
public:
    PythonError() : error_(new State, [](State* s) {
        Gil gil;
        Py_XDECREF(s->type);
        Py_XDECREF(s->value);
        Py_XDECREF(s->traceback);
        delete s;
    }) { PyErr_Fetch(&error_->type, &error_->value, &error_->traceback); }
    void raise() const {
        Py_XINCREF(error_->type);
        Py_XINCREF(error_->value);
        Py_XINCREF(error_->traceback);
        PyErr_Restore(error_->type, error_->value, error_->traceback);
    }

private:
    struct State { PyObject *type = nullptr, *value = nullptr, *traceback = nullptr; };
    std::shared_ptr<State> error_;
};

void raise_error(const dsrt::Error& e) {
    PyObject* module = PyImport_ImportModule("dsrt.errors");
    PyObject* error = module ? PyObject_CallMethod(module, "from_status", "is", static_cast<int>(e.code()), e.what()) : nullptr;
    if (error) PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error)), error);
    Py_XDECREF(error);
    Py_XDECREF(module);
}

}  // namespace
%}

%exception {
    try {
        $action
    } catch (const dsrt::Error& e) {
        raise_error(e);
        SWIG_fail;
    } catch (const PythonError& e) {
        e.raise();
        SWIG_fail;
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
        SWIG_fail;
    } catch (const std::out_of_range& e) {
        PyErr_SetString(PyExc_IndexError, e.what());
        SWIG_fail;
    } catch (const std::exception& e) {
        PyErr_SetString(PyExc_RuntimeError, e.what());
        SWIG_fail;
    }
}
