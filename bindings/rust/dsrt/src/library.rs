use crate::config::{Config, Json};
use crate::error::{c_pointer, c_text, check, logging, release, text_of, Result};
use dsrt_sys as sys;
use std::ffi::{c_void, CStr};
use std::os::raw::c_char;
use std::ptr::{null, null_mut};

fn static_text(text: *const c_char) -> &'static str {
    unsafe { CStr::from_ptr(text) }.to_str().unwrap_or_default()
}

/// The library's version, "0.1.0".
pub fn version() -> &'static str {
    static_text(unsafe { sys::ds_version() })
}

/// Major and minor of the library's ABI.
pub fn abi_version() -> (u32, u32) {
    let number = unsafe { sys::ds_abi_version() };
    (number >> 16, number & 0xffff)
}

/// JSON: compiler, instruction levels, libraries, optional parts, devices.
pub fn build_info() -> &'static str {
    static_text(unsafe { sys::ds_build_info() })
}

/// JSON: every key of the config with type, default and meaning.
pub fn config_describe() -> Result<String> {
    text_of(|out, _| unsafe { sys::ds_config_describe(out) })
}

/// JSON: what a run of this config would need in memory, FLOPs and traffic. Runs nothing.
pub fn plan(config: impl Into<Config>) -> Result<String> {
    let text = config.into().text()?;
    text_of(|out, _| unsafe { sys::ds_plan(c_pointer(&text), null(), out) })
}

/// JSON: scores of predictions ("spans", "squad", "bleu"). Both are lists, or JSON text.
pub fn score(metric: &str, predictions: impl Into<Json>, references: impl Into<Json>) -> Result<String> {
    let given = |json: Json| c_text(&json.given().unwrap_or_else(|| "null".into()));
    let (metric, made, wanted) = (c_text(metric)?, given(predictions.into())?, given(references.into())?);
    text_of(|out, _| unsafe { sys::ds_score(metric.as_ptr(), made.as_ptr(), wanted.as_ptr(), out) })
}

/// Levels of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
#[repr(i32)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Off,
}

type Sink = Box<dyn Fn(Level, &str, &str) + Send + Sync>;

unsafe extern "C" fn deliver(level: i32, component: *const c_char, message: *const c_char, user: *mut c_void) {
    const LEVELS: [Level; 6] = [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error, Level::Off];
    let (component, message) = (CStr::from_ptr(component).to_string_lossy(), CStr::from_ptr(message).to_string_lossy());
    let sink = &*(user as *const Sink);
    logging(|| sink(LEVELS[level.clamp(0, 5) as usize], &component, &message));
}

/// Sends messages of `level` and above to `sink(level, component, message)`. A panic there goes on from the call that logged, once that has done
/// its work.
pub fn set_log(level: Level, sink: impl Fn(Level, &str, &str) + Send + Sync + 'static) -> Result<()> {
    let user: *mut Sink = Box::into_raw(Box::new(Box::new(sink) as Sink));
    let status = unsafe { sys::ds_set_log(Some(deliver), level as i32, user as *mut c_void, Some(release::<Sink>)) };
    if status < 0 {
        drop(unsafe { Box::from_raw(user) });
    }
    check(status).map(drop)
}

/// Back to stderr, warnings and errors only.
pub fn reset_log() -> Result<()> {
    check(unsafe { sys::ds_set_log(None, sys::DS_LOG_WARN, null_mut(), None) }).map(drop)
}
