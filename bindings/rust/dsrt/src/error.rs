use dsrt_sys as sys;
use std::any::Any;
use std::cell::RefCell;
use std::ffi::{c_void, CStr, CString};
use std::fmt;
use std::os::raw::c_char;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};

/// What a callback may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The result of a call.
pub type Result<T> = std::result::Result<T, Error>;

/// The class of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Code {
    InvalidArgument,
    Config,
    NotFound,
    Io,
    Corrupt,
    OutOfMemory,
    Unsupported,
    State,
    Busy,
    Comm,
    Timeout,
    Cancelled,
    Device,
    User,
    Internal,
    Other(i32),
}

impl Code {
    fn of(status: i32) -> Code {
        use Code::*;
        let known = [
            InvalidArgument, Config, NotFound, Io, Corrupt, OutOfMemory, Unsupported, State, Busy, Comm, Timeout, Cancelled, Device, User, Internal,
        ];
        usize::try_from(-1 - status).ok().and_then(|i| known.get(i).copied()).unwrap_or(Other(status))
    }
}

/// A failed call. It displays as the library's words, which name the key, file or tensor, the value found and what is accepted.
#[derive(Debug)]
pub struct Error {
    status: i32,
    message: String,
    source: Option<BoxError>,
}

impl Error {
    /// The class of the failure.
    pub fn code(&self) -> Code {
        Code::of(self.status)
    }
    /// The code's name, "DS_E_CONFIG".
    pub fn name(&self) -> &'static str {
        unsafe { CStr::from_ptr(sys::ds_status_name(self.status)) }.to_str().unwrap_or("DS_?")
    }
    /// What a callback failed with, where it was one.
    pub fn into_source(self) -> Option<BoxError> {
        self.source
    }
    /// Of a callback that ran outside of a call.
    pub(crate) fn of_callback(source: BoxError) -> Error {
        Error { status: sys::DS_E_USER, message: "a callback of the host failed".into(), source: Some(source) }
    }
    pub(crate) fn new(status: i32, message: String) -> Error {
        Error { status, message, source: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|e| e.as_ref() as _)
    }
}

/// What a callback on this thread failed or panicked with, until the call that ran it is over.
enum Pending {
    Failed(BoxError),
    Panicked(Box<dyn Any + Send>),
}

thread_local! {
    static PENDING: RefCell<Option<Pending>> = RefCell::new(None);
    static LOGGED: RefCell<Option<Box<dyn Any + Send>>> = RefCell::new(None); // what the log panicked with; it can't stop the call
}

/// Runs the log's sink.
pub(crate) fn logging(f: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(f)) {
        LOGGED.with(|l| *l.borrow_mut() = Some(panic));
    }
}

/// Destroys something. A log that panics meanwhile has nobody to tell.
pub(crate) fn destroying(f: impl FnOnce()) {
    let before = LOGGED.try_with(|l| l.borrow_mut().take());
    f();
    let _ = LOGGED.try_with(|l| *l.borrow_mut() = before.ok().flatten());
}

/// Runs a callback. No panic and no error crosses C: both wait here for `check`.
pub(crate) fn callback(f: impl FnOnce() -> std::result::Result<i32, BoxError>) -> i32 {
    let pending = match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(answer)) => return answer,
        Ok(Err(e)) => Pending::Failed(e),
        Err(panic) => Pending::Panicked(panic),
    };
    PENDING.with(|p| *p.borrow_mut() = Some(pending));
    sys::DS_E_USER
}

/// The status of a call, or its error; a callback's panic goes on.
pub(crate) fn check(status: i32) -> Result<i32> {
    let pending = PENDING.with(|p| p.borrow_mut().take());
    let logged = LOGGED.with(|l| l.borrow_mut().take());
    if status >= 0 {
        return logged.map_or(Ok(status), |panic| resume_unwind(panic));
    }
    let source = match pending {
        Some(Pending::Panicked(panic)) => resume_unwind(panic),
        Some(Pending::Failed(e)) if status == sys::DS_E_USER => Some(e),
        _ => None,
    };
    let message = unsafe { CStr::from_ptr(sys::ds_last_error()) }.to_string_lossy().into_owned();
    Err(Error { status, message, source })
}

/// Drops what a C caller owns: a box that `Box::into_raw` gave away.
pub(crate) unsafe extern "C" fn release<T>(user: *mut c_void) {
    let user = Box::from_raw(user as *mut T);
    let _ = catch_unwind(AssertUnwindSafe(move || drop(user)));
}

/// Text for C; one that holds a NUL is refused.
pub(crate) fn c_text(text: &str) -> Result<CString> {
    c_named("the text", text)
}

pub(crate) fn c_named(name: &str, text: &str) -> Result<CString> {
    CString::new(text).map_err(|e| Error::new(sys::DS_E_INVALID_ARGUMENT, format!("{name} holds a NUL at byte {}", e.nul_position())))
}

/// The path of a file for C; one that is not UTF-8 would be another file's.
pub(crate) fn c_path(path: &std::path::Path) -> Result<CString> {
    path.to_str().map_or_else(|| Err(Error::new(sys::DS_E_INVALID_ARGUMENT, format!("the path {:?} is not UTF-8", path))), c_text)
}

pub(crate) fn c_option(text: Option<&str>) -> Result<Option<CString>> {
    text.map(c_text).transpose()
}

pub(crate) fn c_pointer(text: &Option<CString>) -> *const c_char {
    text.as_ref().map_or(std::ptr::null(), |t| t.as_ptr())
}

/// Memory that the library hands out.
pub(crate) struct Handed<T>(pub(crate) *mut T);
impl<T> Handed<T> {
    pub(crate) fn none() -> Handed<T> {
        Handed(std::ptr::null_mut())
    }
    /// A copy of the `n` values that lie there.
    pub(crate) fn to_vec(&self, n: usize) -> Vec<T>
    where
        T: Copy,
    {
        (0..n).map(|i| unsafe { *self.0.add(i) }).collect()
    }
}
impl<T> Drop for Handed<T> {
    fn drop(&mut self) {
        unsafe { sys::ds_free(self.0 as *mut c_void) }
    }
}

/// The text that a call hands out, and how many bytes it has.
pub(crate) fn text_of(call: impl FnOnce(*mut *mut c_char, *mut usize) -> i32) -> Result<String> {
    let (mut text, mut bytes) = (Handed::none(), 0);
    check(call(&mut text.0, &mut bytes))?;
    let bytes = if bytes > 0 { bytes } else { unsafe { CStr::from_ptr(text.0) }.to_bytes().len() };
    Ok(String::from_utf8_lossy(unsafe { std::slice::from_raw_parts(text.0 as *const u8, bytes) }).into_owned())
}

/// A type that owns one handle, and frees it.
macro_rules! handle {
    ($(#[$doc:meta])* $name:ident, $c:ident, $destroy:ident) => {
        $(#[$doc])*
        pub struct $name {
            pub(crate) ptr: *mut sys::$c,
        }
        impl $name {
            /// What a call makes.
            #[allow(dead_code)]
            pub(crate) fn made(call: impl FnOnce(*mut *mut sys::$c) -> i32) -> crate::Result<$name> {
                let mut handle = $name { ptr: std::ptr::null_mut() };
                crate::error::check(call(&mut handle.ptr))?;
                Ok(handle)
            }
        }
        impl Drop for $name {
            fn drop(&mut self) {
                crate::error::destroying(|| unsafe { sys::$destroy(self.ptr) })
            }
        }
        // No call is bound to a thread.
        unsafe impl Send for $name {}
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    };
}
pub(crate) use handle;
