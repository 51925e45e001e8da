use crate::error::{c_text, callback, check, release, BoxError, Result};
use crate::graph::Graph;
use crate::tensor::{DType, Element};
use dsrt_sys as sys;
use std::ffi::{c_void, CStr};
use std::marker::PhantomData;
use std::os::raw::c_char;
use std::slice::{from_raw_parts, from_raw_parts_mut};

/// An op of the host's own, for `Graph::define_op`. `attributes` is the JSON object that the graph gave, "{}" without. Inputs are f32, i32 (ids) or u8
/// (masks), outputs and gradients f32. What it fails with is the error's source, a panic goes on outside of C. Engines of two threads may run it at
/// the same time.
pub trait Op: Send + Sync {
    /// How many outputs it has, 1 to 8.
    fn outputs(&self) -> usize {
        1
    }
    /// The outputs' shapes; by default each is the first input's. The inputs have no values yet. While a graph is built, rows and length are large
    /// numbers: hand them on, or their products, as they are.
    fn shapes(&self, _attributes: &str, inputs: &[OpInput<'_>]) -> std::result::Result<Vec<Vec<i64>>, BoxError> {
        let first = inputs.first().ok_or("an op without inputs must say its shapes")?;
        Ok(vec![first.shape().to_vec(); self.outputs()])
    }
    /// Writes the outputs.
    fn forward(&self, attributes: &str, inputs: &[OpInput<'_>], outputs: &mut [OpOutput<'_>]) -> std::result::Result<(), BoxError>;
    /// Whether `backward` is there; without it the op has no gradient.
    fn differentiable(&self) -> bool {
        false
    }
    /// Writes the inputs' gradients, but for those that are not wanted.
    fn backward(
        &self,
        _attributes: &str,
        _inputs: &[OpInput<'_>],
        _outputs: &[OpInput<'_>],
        _output_gradients: &[OpInput<'_>],
        _input_gradients: &mut [OpOutput<'_>],
    ) -> std::result::Result<(), BoxError> {
        Err("differentiable() says that there is a backward(), but there is none".into())
    }
}

fn dtype_of(v: &sys::ds_op_value) -> DType {
    match v.dtype {
        sys::DS_I32 => DType::I32,
        sys::DS_U8 => DType::U8,
        _ => DType::F32,
    }
}

fn shape_of(v: &sys::ds_op_value) -> &[i64] {
    match v.ndim {
        0 => &[],
        n => unsafe { from_raw_parts(v.shape, n as usize) },
    }
}

/// Address and number of the elements. Panics where they are not of type `T`: the callback then fails.
fn memory_of<T: Element>(v: &sys::ds_op_value) -> (*mut T, usize) {
    assert_eq!(T::DTYPE, dtype_of(v), "the type of an op's value");
    let n = shape_of(v).iter().product::<i64>() as usize;
    let data = v.data as *mut T;
    assert_eq!(data as usize % std::mem::align_of::<T>(), 0, "the alignment of an op's value");
    if data.is_null() || n == 0 {
        (std::ptr::NonNull::dangling().as_ptr(), 0)
    } else {
        (data, n)
    }
}

/// A value that an op reads: dense, row-major.
pub struct OpInput<'a>(&'a sys::ds_op_value);

impl OpInput<'_> {
    /// F32, I32 or U8.
    pub fn dtype(&self) -> DType {
        dtype_of(self.0)
    }
    /// Its sizes.
    pub fn shape(&self) -> &[i64] {
        shape_of(self.0)
    }
    /// Its elements, of type `T`; none while shapes are asked for.
    pub fn values<T: Element>(&self) -> &[T] {
        let (data, n) = memory_of::<T>(self.0);
        unsafe { from_raw_parts(data, n) }
    }
}

/// A value that an op writes: dense, row-major, f32.
pub struct OpOutput<'a>(&'a sys::ds_op_value, PhantomData<&'a mut [f32]>);

impl OpOutput<'_> {
    /// Its sizes.
    pub fn shape(&self) -> &[i64] {
        shape_of(self.0)
    }
    /// Whether anybody wants it: there is nothing to write otherwise.
    pub fn wanted(&self) -> bool {
        !self.0.data.is_null()
    }
    /// Its elements; none where it is not wanted.
    pub fn values(&mut self) -> &mut [f32] {
        let (data, n) = memory_of::<f32>(self.0);
        unsafe { from_raw_parts_mut(data, n) }
    }
}

struct User {
    op: Box<dyn Op>,
    outputs: usize, // as the library was told: what op.outputs() says later does not count
}

unsafe fn reads<'a>(values: *const sys::ds_op_value, n: usize) -> Vec<OpInput<'a>> {
    (0..n).map(|i| OpInput(&*values.add(i))).collect()
}

unsafe fn writes<'a>(values: *const sys::ds_op_value, n: usize) -> Vec<OpOutput<'a>> {
    (0..n).map(|i| OpOutput(&*values.add(i), PhantomData)).collect()
}

unsafe extern "C" fn shape(
    user: *mut c_void,
    attributes: *const c_char,
    inputs: *const sys::ds_op_value,
    n: usize,
    ndim: *mut i32,
    shapes: *mut [i64; 8],
) -> i32 {
    let User { op, outputs: made } = &*(user as *const User);
    callback(|| {
        let all = op.shapes(&CStr::from_ptr(attributes).to_string_lossy(), &reads(inputs, n))?;
        if all.len() != *made || all.iter().any(|s| s.len() > 8) {
            return Err(format!("shapes() gives {:?}; accepted: {} of at most 8 dimensions", all, made).into());
        }
        for (i, shape) in all.iter().enumerate() {
            *ndim.add(i) = shape.len() as i32;
            let into = &mut *shapes.add(i);
            into[..shape.len()].copy_from_slice(shape);
        }
        Ok(sys::DS_OK)
    })
}

unsafe extern "C" fn forward(
    user: *mut c_void,
    attributes: *const c_char,
    inputs: *const sys::ds_op_value,
    n: usize,
    outputs: *const sys::ds_op_value,
) -> i32 {
    let User { op, outputs: made } = &*(user as *const User);
    callback(|| {
        op.forward(&CStr::from_ptr(attributes).to_string_lossy(), &reads(inputs, n), &mut writes(outputs, *made))?;
        Ok(sys::DS_OK)
    })
}

unsafe extern "C" fn backward(
    user: *mut c_void,
    attributes: *const c_char,
    inputs: *const sys::ds_op_value,
    n: usize,
    outputs: *const sys::ds_op_value,
    output_gradients: *const sys::ds_op_value,
    input_gradients: *const sys::ds_op_value,
) -> i32 {
    let User { op, outputs: made } = &*(user as *const User);
    callback(|| {
        let attributes = CStr::from_ptr(attributes).to_string_lossy();
        op.backward(&attributes, &reads(inputs, n), &reads(outputs, *made), &reads(output_gradients, *made), &mut writes(input_gradients, n))?;
        Ok(sys::DS_OK)
    })
}

impl Graph {
    /// Makes `name` an op of this graph, for `op`, `ops` and `read`. The graph, and engines made of it, keep it.
    pub fn define_op(&mut self, name: &str, op: impl Op + 'static) -> Result<()> {
        let name = c_text(name)?;
        let (outputs, differentiable) = (op.outputs(), op.differentiable());
        let user = Box::into_raw(Box::new(User { op: Box::new(op), outputs }));
        let callbacks = sys::ds_op_callbacks {
            struct_size: std::mem::size_of::<sys::ds_op_callbacks>(),
            user: user as *mut c_void,
            n_outputs: outputs as i32,
            shape: Some(shape),
            forward: Some(forward),
            backward: if differentiable { Some(backward) } else { None },
            release: Some(release::<User>),
        };
        let status = unsafe { sys::ds_graph_define_op(self.ptr, name.as_ptr(), &callbacks) };
        if status < 0 {
            drop(unsafe { Box::from_raw(user) });
        }
        check(status).map(drop)
    }
}
