use crate::config::Json;
use crate::error::{c_option, c_pointer, c_text, check, handle, Result};
use crate::tensor::DType;
use dsrt_sys as sys;

handle!(
    /// A model that the host builds out of ops.
    Graph, ds_graph, ds_graph_destroy
);

/// A value of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Value(i32);

impl Value {
    /// An optional input that is left out.
    pub const NONE: Value = Value(-1);
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Result<Graph> {
        Graph::made(|out| unsafe { sys::ds_graph_create(out) })
    }

    /// Reads the text form, the one that DSRT_DUMP writes.
    pub fn parse(text: &str) -> Result<Graph> {
        let text = c_text(text)?;
        Graph::made(|out| unsafe { sys::ds_graph_parse(text.as_ptr(), out) })
    }

    /// Reads the text form into a graph without values, which may have ops of the host's own.
    pub fn read(&mut self, text: &str) -> Result<()> {
        let text = c_text(text)?;
        check(unsafe { sys::ds_graph_read(self.ptr, text.as_ptr()) }).map(drop)
    }

    /// Every op with inputs, outputs and attributes, as JSON.
    pub fn ops_json() -> Result<String> {
        crate::error::text_of(|out, _| unsafe { sys::ds_graph_ops_json(out) })
    }

    /// An input; -1 in its shape is bound at run time, the first to rows, the second to length.
    pub fn input(&mut self, name: &str, dtype: DType, shape: &[i64]) -> Result<Value> {
        let name = c_text(name)?;
        let mut value = -1;
        check(unsafe { sys::ds_graph_input(self.ptr, name.as_ptr(), dtype as i32, shape.len() as i32, shape.as_ptr(), &mut value) })?;
        Ok(Value(value))
    }

    /// A trainable parameter; init as `Json::object([("type", "ones")])`, `Json::Null`: zeros.
    pub fn param(&mut self, name: &str, shape: &[i64], init: impl Into<Json>) -> Result<Value> {
        let (name, init) = (c_text(name)?, c_option(init.into().given().as_deref())?);
        let mut value = -1;
        check(unsafe {
            sys::ds_graph_param(self.ptr, name.as_ptr(), sys::DS_F32, shape.len() as i32, shape.as_ptr(), c_pointer(&init), &mut value)
        })?;
        Ok(Value(value))
    }

    /// An op with one output. `attributes`: an object, or `Json::Null`.
    pub fn op(&mut self, name: &str, inputs: &[Value], attributes: impl Into<Json>) -> Result<Value> {
        Ok(self.ops(name, inputs, attributes, 1)?[0])
    }

    /// An op with several outputs.
    pub fn ops(&mut self, name: &str, inputs: &[Value], attributes: impl Into<Json>, outputs: usize) -> Result<Vec<Value>> {
        let (name, attributes) = (c_text(name)?, c_option(attributes.into().given().as_deref())?);
        let inputs: Vec<i32> = inputs.iter().map(|v| v.0).collect();
        let mut made = vec![-1; outputs];
        check(unsafe {
            sys::ds_graph_op(self.ptr, name.as_ptr(), inputs.as_ptr(), inputs.len(), c_pointer(&attributes), made.as_mut_ptr(), outputs)
        })?;
        Ok(made.into_iter().map(Value).collect())
    }

    /// A model family's body: its output of input_ids, attention_mask, token_type_ids, position_ids.
    pub fn model(&mut self, folder: &str, inputs: &[Value], output: &str, options: impl Into<Json>) -> Result<Value> {
        let (folder, output, options) = (c_text(folder)?, c_text(output)?, c_option(options.into().given().as_deref())?);
        let inputs: Vec<i32> = inputs.iter().map(|v| v.0).collect();
        let mut value = -1;
        check(unsafe {
            sys::ds_graph_model(self.ptr, folder.as_ptr(), c_pointer(&options), inputs.as_ptr(), inputs.len(), output.as_ptr(), &mut value)
        })?;
        Ok(Value(value))
    }

    /// Names a value as an output.
    pub fn output(&mut self, name: &str, value: Value) -> Result<()> {
        let name = c_text(name)?;
        check(unsafe { sys::ds_graph_output(self.ptr, name.as_ptr(), value.0) }).map(drop)
    }

    /// Makes a value the loss.
    pub fn loss(&mut self, value: Value) -> Result<()> {
        check(unsafe { sys::ds_graph_loss(self.ptr, value.0) }).map(drop)
    }
}
