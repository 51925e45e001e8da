use crate::error::{c_text, check, handle, Error, Result};
use dsrt_sys as sys;
use std::marker::PhantomData;
use std::os::raw::c_void;
use std::ptr::null_mut;

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
#[repr(i32)]
pub enum DType {
    F32,
    F16,
    Bf16,
    F64,
    I32,
    I64,
    U8,
    Bool,
    I8,
    F8E4M3,
    F8E5M2,
}

const DTYPES: [DType; 11] = {
    use DType::*;
    [F32, F16, Bf16, F64, I32, I64, U8, Bool, I8, F8E4M3, F8E5M2]
};

mod sealed {
    pub trait Sealed {}
}

/// A number of Rust that tensors are made from and read into.
pub trait Element: Copy + Default + 'static + sealed::Sealed {
    /// Its type in a tensor.
    const DTYPE: DType;
}
macro_rules! element {
    ($($t:ty: $d:ident),*) => {$(
        impl sealed::Sealed for $t {}
        impl Element for $t {
            const DTYPE: DType = DType::$d;
        }
    )*};
}
element!(f32: F32, f64: F64, i32: I32, i64: I64, u8: U8, i8: I8);

handle!(
    /// A dense row-major array.
    Tensor, ds_tensor, ds_tensor_destroy
);
// Calls that take only const handles may run at once.
unsafe impl Sync for Tensor {}

impl Tensor {
    /// Copies `values`, whose number must be the product of `shape`.
    pub fn new<T: Element>(values: &[T], shape: &[usize]) -> Result<Tensor> {
        Tensor::make(T::DTYPE, shape, values.as_ptr() as *const c_void, std::mem::size_of_val(values))
    }

    /// Zeros.
    pub fn zeros(dtype: DType, shape: &[usize]) -> Result<Tensor> {
        Tensor::make(dtype, shape, std::ptr::null(), 0)
    }

    fn make(dtype: DType, shape: &[usize], data: *const c_void, bytes: usize) -> Result<Tensor> {
        let dims: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
        Tensor::made(|out| unsafe { sys::ds_tensor_create(dtype as i32, dims.len() as i32, dims.as_ptr(), data, bytes, out) })
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        let mut code = 0;
        unsafe { sys::ds_tensor_info(self.ptr, &mut code, null_mut(), null_mut()) };
        DTYPES[code as usize]
    }

    /// The shape; empty for one number.
    pub fn shape(&self) -> Vec<usize> {
        let (mut ndim, mut dims) = (0, std::ptr::null());
        unsafe { sys::ds_tensor_info(self.ptr, null_mut(), &mut ndim, &mut dims) };
        (0..ndim as usize).map(|i| unsafe { *dims.add(i) } as usize).collect()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape().iter().product()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The contents, converted as a C cast does.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        let mut out = vec![T::default(); self.len()];
        let bytes = std::mem::size_of_val(&out[..]);
        check(unsafe { sys::ds_tensor_read(self.ptr, T::DTYPE as i32, out.as_mut_ptr() as *mut c_void, bytes) })?;
        Ok(out)
    }

    /// The memory itself, without a copy. `T` must be the tensor's type.
    pub fn view<T: Element>(&mut self) -> Result<View<'_, T>> {
        if T::DTYPE != self.dtype() {
            let message = format!("Tensor::view: the tensor holds {:?}, not {:?}", self.dtype(), T::DTYPE);
            return Err(Error::new(sys::DS_E_INVALID_ARGUMENT, message));
        }
        let len = self.len();
        let mut lent = null_mut();
        check(unsafe { sys::ds_tensor_to_dlpack(self.ptr, &mut lent) })?;
        let managed = lent as *mut Managed;
        let (data, flags) = unsafe { ((*managed).data as *mut u8, (*managed).flags) };
        let data = unsafe { data.add((*managed).byte_offset as usize) } as *mut T;
        Ok(View { managed, data: if len == 0 { std::ptr::NonNull::dangling().as_ptr() } else { data }, len, read_only: flags & 1 != 0, tensor: PhantomData })
    }
}

/// DLManagedTensorVersioned of DLPack 1, as far as it is needed here.
#[repr(C)]
struct Managed {
    version: [u32; 2],
    manager_ctx: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Managed)>,
    flags: u64,
    data: *mut c_void,
    device: [i32; 2],
    ndim: i32,
    dtype: u32,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

/// The memory of a tensor, for as long as the tensor is borrowed. Reads and, unless it came in as read-only, writes like a slice.
pub struct View<'t, T> {
    managed: *mut Managed,
    data: *mut T,
    len: usize,
    read_only: bool,
    tensor: PhantomData<&'t mut Tensor>,
}

impl<T> std::ops::Deref for View<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

impl<T> std::ops::DerefMut for View<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        assert!(!self.read_only, "the tensor's memory is read-only");
        unsafe { std::slice::from_raw_parts_mut(self.data, self.len) }
    }
}

impl<T> Drop for View<'_, T> {
    fn drop(&mut self) {
        unsafe {
            if let Some(deleter) = (*self.managed).deleter {
                deleter(self.managed)
            }
        }
    }
}

handle!(
    /// Named tensors, by Hugging Face's names: input_ids, attention_mask, labels ...
    Batch, ds_batch, ds_batch_destroy
);
unsafe impl Sync for Batch {}

impl Batch {
    /// An empty batch.
    pub fn new() -> Result<Batch> {
        Batch::made(|out| unsafe { sys::ds_batch_create(out) })
    }

    /// Puts the tensor's contents as of now under `name`.
    pub fn set(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        let name = c_text(name)?;
        check(unsafe { sys::ds_batch_set(self.ptr, name.as_ptr(), tensor.ptr) }).map(drop)
    }

    /// `set` for numbers of Rust, in a chain.
    pub fn with<T: Element>(mut self, name: &str, values: &[T], shape: &[usize]) -> Result<Batch> {
        self.set(name, &Tensor::new(values, shape)?)?;
        Ok(self)
    }

    /// A new tensor with the contents under `name`.
    pub fn get(&self, name: &str) -> Result<Tensor> {
        let name = c_text(name)?;
        Tensor::made(|out| unsafe { sys::ds_batch_get(self.ptr, name.as_ptr(), out) })
    }
}
