use crate::config::Json;
use crate::engine::Engine;
use crate::error::{c_option, callback, check, handle, release, BoxError, Result};
use crate::tensor::Batch;
use dsrt_sys as sys;
use std::ffi::{c_void, CStr};
use std::os::raw::c_char;
use std::ptr::null_mut;

handle!(
    /// A source of batches. What it was opened with may be dropped before it: then it answers an error.
    Data, ds_data, ds_data_destroy
);

/// An iterator of the host's own.
pub trait Source: Send {
    /// Fills the batch, which is empty, by `set` (another one in its place is an error); false at the end of an epoch. The call after that starts the next one.
    fn next(&mut self, batch: &mut Batch) -> std::result::Result<bool, BoxError>;
    /// Whether checkpoints keep its place, by `save` and `restore`.
    fn keeps_cursor(&self) -> bool {
        false
    }
    /// The place, as JSON text.
    fn save(&mut self) -> std::result::Result<String, BoxError> {
        Ok("null".into())
    }
    /// Goes back to such a place.
    fn restore(&mut self, _cursor: &str) -> std::result::Result<(), BoxError> {
        Ok(())
    }
}

type User = Box<dyn Source>;

unsafe extern "C" fn next(user: *mut c_void, batch: *mut sys::ds_batch) -> i32 {
    let mut filled = Batch { ptr: batch };
    let code = callback(|| {
        let more = (*(user as *mut User)).next(&mut filled)?;
        if filled.ptr != batch {
            let message = "Source::next assigned its batch: put tensors into it by set()";
            return Err(crate::Error::new(sys::DS_E_INVALID_ARGUMENT, message.into()).into());
        }
        Ok(if more { sys::DS_OK } else { sys::DS_END })
    });
    if filled.ptr == batch {
        std::mem::forget(filled); // the library's
    }
    code
}

unsafe extern "C" fn save(user: *mut c_void, json: *mut *mut c_char) -> i32 {
    extern "C" {
        fn strdup(text: *const c_char) -> *mut c_char;
    }
    callback(|| {
        let text = std::ffi::CString::new((*(user as *mut User)).save()?)?;
        *json = strdup(text.as_ptr());
        Ok(if (*json).is_null() { sys::DS_E_OUT_OF_MEMORY } else { sys::DS_OK })
    })
}

unsafe extern "C" fn restore(user: *mut c_void, json: *const c_char) -> i32 {
    callback(|| {
        (*(user as *mut User)).restore(&CStr::from_ptr(json).to_string_lossy())?;
        Ok(sys::DS_OK)
    })
}

impl Data {
    /// Opens files, without an engine: all rows. `config_describe` lists the options under "data".
    pub fn open(options: impl Into<Json>) -> Result<Data> {
        Data::open_with(Some(options.into()), null_mut())
    }

    pub(crate) fn open_with(options: Option<Json>, engine: *mut sys::ds_engine) -> Result<Data> {
        let text = c_option(options.and_then(Json::given).as_deref())?;
        Data::made(|out| unsafe { sys::ds_data_open(crate::error::c_pointer(&text), engine, out) })
    }

    /// Wraps an iterator of the host's own. With an engine, its place is kept in the engine's checkpoints.
    pub fn from_source(source: impl Source + 'static, engine: Option<&Engine>) -> Result<Data> {
        let cursor = source.keeps_cursor();
        let user: *mut User = Box::into_raw(Box::new(Box::new(source) as User));
        let callbacks = sys::ds_data_source {
            struct_size: std::mem::size_of::<sys::ds_data_source>(),
            user: user as *mut c_void,
            next: Some(next),
            save: if cursor { Some(save) } else { None },
            restore: if cursor { Some(restore) } else { None },
            release: Some(release::<User>),
        };
        Data::made(|out| {
            let status = unsafe { sys::ds_data_create(&callbacks, engine.map_or(null_mut(), |e| e.ptr), out) };
            if status < 0 {
                drop(unsafe { Box::from_raw(user) });
            }
            status
        })
    }

    /// The next micro-batch; `None` at the end of an epoch, and the call after that starts the next one.
    pub fn next_batch(&mut self) -> Result<Option<Batch>> {
        let batch = Batch::new()?;
        let status = check(unsafe { sys::ds_data_next(self.ptr, batch.ptr) })?;
        Ok(if status == sys::DS_END { None } else { Some(batch) })
    }

    /// The batches of one epoch.
    pub fn epoch(&mut self) -> Batches<'_> {
        Batches { data: self, over: false }
    }
}

/// The batches of one epoch, to its end or to the first error.
pub struct Batches<'d> {
    data: &'d mut Data,
    over: bool,
}

impl Iterator for Batches<'_> {
    type Item = Result<Batch>;
    fn next(&mut self) -> Option<Result<Batch>> {
        if self.over {
            return None;
        }
        let item = self.data.next_batch().transpose();
        self.over = !matches!(item, Some(Ok(_)));
        item
    }
}
