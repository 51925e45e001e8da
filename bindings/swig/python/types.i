// None or a str; sequences of numbers; buffers; DLPack capsules.
%include <std_vector.i>
%template() std::vector<int32_t>;
%template() std::vector<std::vector<int32_t>>;
%template() std::vector<int64_t>;
%template() std::vector<std::string>;

%typemap(in) const std::optional<std::string>& (std::optional<std::string> text) {
    if ($input != Py_None) {
        std::string* made = nullptr;
        const int how = SWIG_AsPtr_std_string($input, &made);
        if (!SWIG_IsOK(how) || !made) %argument_fail(how, "str or None", $symname, $argnum);
        text = *made;
        if (SWIG_IsNewObj(how)) delete made;
    }
    $1 = &text;
}
%typemap(typecheck, precedence=SWIG_TYPECHECK_STRING) const std::optional<std::string>& { $1 = $input == Py_None || PyUnicode_Check($input); }

// Anything with the buffer protocol, contiguous. It is held for as long as the call.
%typemap(in) dsrt::Memory (Py_buffer buffer = {}) {
    if (PyObject_GetBuffer($input, &buffer, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE) < 0) {
        PyErr_Clear();
        if (PyObject_GetBuffer($input, &buffer, PyBUF_C_CONTIGUOUS) < 0) SWIG_fail;
    }
    $1 = dsrt::Memory{buffer.buf, static_cast<size_t>(buffer.len)};
}
%typemap(freearg) dsrt::Memory { if (buffer$argnum.obj) PyBuffer_Release(&buffer$argnum); }
%typemap(typecheck, precedence=SWIG_TYPECHECK_POINTER) dsrt::Memory { $1 = PyObject_CheckBuffer($input); }
%typemap(out) dsrt::Memory { $result = PyMemoryView_FromMemory(static_cast<char*>($1.data), static_cast<Py_ssize_t>($1.bytes), PyBUF_WRITE); }

// A capsule is consumed by renaming it, as DLPack's Python protocol says.
%define DSRT_CAPSULE(struct_name, capsule_name)
%typemap(in) struct_name* {
    $1 = static_cast<struct_name*>(PyCapsule_GetPointer($input, capsule_name));
    if (!$1) SWIG_fail;
}
%typemap(argout) struct_name* src { PyCapsule_SetName($input, "used_" capsule_name); }
%typemap(out) struct_name* {
    $result = PyCapsule_New($1, capsule_name, [](PyObject* capsule) {
        if (!PyCapsule_IsValid(capsule, capsule_name)) return;  // consumed
        auto* lent = static_cast<struct_name*>(PyCapsule_GetPointer(capsule, capsule_name));
        if (lent->deleter) lent->deleter(lent);
    });
}
%enddef
DSRT_CAPSULE(DLManagedTensor, "dltensor")
DSRT_CAPSULE(DLManagedTensorVersioned, "dltensor_versioned")

// Results that only move.
%typemap(out) dsrt::Tensor, dsrt::Batch, dsrt::Graph {
    $result = SWIG_NewPointerObj(new $1_ltype(std::move($1)), $&1_descriptor, SWIG_POINTER_OWN);
}
