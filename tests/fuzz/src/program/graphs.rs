//! Calls that build graphs.

use std::ffi::c_void;

use tenon::abi::*;
use tenon_runtime::ops::{Attr, table};

use super::arguments::{Buffer, dims, dtype, place};
use super::{Graph, Program, pick};
use crate::reach::reached;
use crate::{Chosen, rarely};

impl Program<'_, '_> {
    /// A graph's number, handle and context; NULL now and then.
    fn any_graph(&mut self) -> Chosen<(Option<usize>, *mut tn_graph, Option<usize>)> {
        let at = pick(self.u, &self.graphs)?;
        let graph = at.map(|at| &self.graphs[at]);
        let handle = graph.map_or(std::ptr::null_mut(), |graph| graph.handle);
        Ok((
            at,
            handle,
            graph.map(|graph| graph.context).filter(|&at| !self.contexts[at].is_null()),
        ))
    }

    /// A value of a graph, sometimes of none.
    fn any_value(&mut self, graph: Option<usize>) -> Chosen<tn_value> {
        let values = graph.map_or(&[][..], |at| &self.graphs[at].values[..]);
        if values.is_empty() || rarely(self.u, 32)? {
            return self.u.arbitrary();
        }
        self.u.choose(values).copied()
    }

    fn new_graph(&mut self) -> Chosen<()> {
        if self.graphs.len() > 3 {
            return Ok(());
        }
        let (context, at) = self.any_context()?;
        let mut made = std::ptr::null_mut();
        let to = place(self.u, &mut made)?;
        // SAFETY: a live context or NULL.
        let status = unsafe { tn_graph_create(context, to) };
        if self.told(status, at) {
            let context = at.unwrap_or_default();
            self.graphs.push(Graph {
                handle: made,
                context,
                values: Vec::new(),
                losses: Vec::new(),
            });
        } else {
            assert!(made.is_null());
        }
        Ok(())
    }

    pub(super) fn graph_call(&mut self) -> Chosen<()> {
        if self.graphs.is_empty() {
            return self.new_graph();
        }
        match self.u.int_in_range(0..=15)? {
            0 => self.new_graph(),
            1..=3 => self.network(),
            4..=6 => self.source(),
            7..=10 => self.op(),
            11 => self.text(),
            12 => self.shape(),
            13 => self.send(),
            _ => self.mark(),
        }
    }

    /// A whole network, small and good, with the names that sessions are fed by.
    fn network(&mut self) -> Chosen<()> {
        let Some(at) = pick(self.u, &self.graphs)? else { return Ok(()) };
        let graph = self.graphs[at].handle;
        let (rows, inputs, outputs) =
            (self.u.int_in_range(1..=4)?, self.u.int_in_range(1..=8)?, self.u.int_in_range(1..=5)?);
        let mut v = [0; 5];
        let input = [rows, inputs];
        let (weight, targets) = ([outputs, inputs], [rows]);
        let data: Vec<f32> = (0..outputs * inputs).map(|i| (i as f32 * 0.7).sin()).collect();
        // SAFETY: a live graph, arrays of the sizes told.
        unsafe {
            let all = [
                tn_graph_input(
                    graph,
                    c"x".as_ptr(),
                    TN_F32 as i32,
                    input.as_ptr(),
                    2,
                    &raw mut v[0],
                ),
                tn_graph_parameter(
                    graph,
                    c"w".as_ptr(),
                    TN_F32 as i32,
                    weight.as_ptr(),
                    2,
                    data.as_ptr().cast(),
                    data.len() * 4,
                    1,
                    &raw mut v[1],
                ),
                tn_graph_input(
                    graph,
                    c"targets".as_ptr(),
                    TN_I32 as i32,
                    targets.as_ptr(),
                    1,
                    &raw mut v[2],
                ),
            ];
            if all.iter().any(|&status| status != TN_OK as i32) {
                return Ok(());
            }
            let made = [
                tn_graph_add(
                    graph,
                    c"linear".as_ptr(),
                    std::ptr::null(),
                    0,
                    [v[0], v[1]].as_ptr(),
                    2,
                    &raw mut v[3],
                    1,
                    std::ptr::null_mut(),
                ),
                tn_graph_add(
                    graph,
                    c"cross_entropy".as_ptr(),
                    std::ptr::null(),
                    0,
                    [v[3], v[2]].as_ptr(),
                    2,
                    &raw mut v[4],
                    1,
                    std::ptr::null_mut(),
                ),
            ];
            assert_eq!(made, [TN_OK as i32; 2]);
        }
        self.graphs[at].values.extend(v);
        self.graphs[at].losses.push(v[4]);
        reached("a network");
        Ok(())
    }

    /// An input, parameter, state, constant or received value.
    fn source(&mut self) -> Chosen<()> {
        let (at, graph, context) = self.any_graph()?;
        let name = format!("n{}", self.u.int_in_range(0..=20)?);
        let name = self.texts.give(self.u, &name)?;
        let (kind, dims) = (dtype(self.u)?, dims(self.u)?);
        let (rank, trains) = (dims.len(), self.u.int_in_range(0..=1)?);
        // A claim of a rank must be covered by what is there, unless it is refused by itself.
        let rank = if rarely(self.u, 64)? { usize::MAX } else { rank };
        let shape = if rarely(self.u, 64)? { std::ptr::null() } else { dims.as_ptr() };
        let count = dims
            .iter()
            .try_fold(1i64, |n, &d| n.checked_mul(d))
            .filter(|n| (0..1 << 16).contains(n));
        let each = match kind {
            0 | 4 => 4,
            1 | 2 => 2,
            _ => 1,
        };
        let mut data = Buffer::new(self.u, count.unwrap_or(0) as usize * each, 1)?;
        let mut value = 0;
        let to = place(self.u, &mut value)?;
        // SAFETY: a live graph or NULL; arrays of the sizes told, or NULL.
        let status = unsafe {
            match self.u.int_in_range(0..=5)? {
                0 => tn_graph_input(graph, name, kind, shape, rank, to),
                1 => tn_graph_state(graph, name, kind, shape, rank, to),
                2 => tn_graph_constant(graph, kind, shape, rank, data.pointer(), data.len(), to),
                3 => tn_graph_receive(graph, name, kind, shape, rank, trains, to),
                4 => return self.adopt(),
                _ => {
                    let (data, size) = (data.pointer::<c_void>(), data.len());
                    tn_graph_parameter(graph, name, kind, shape, rank, data, size, trains, to)
                }
            }
        };
        if self.told(status, context) {
            self.graphs[at.unwrap_or_default()].values.push(value);
        }
        Ok(())
    }

    /// A parameter in memory that a session, or someone else, shares.
    fn adopt(&mut self) -> Chosen<()> {
        let (at, graph, context) = self.any_graph()?;
        let name = format!("n{}", self.u.int_in_range(0..=20)?);
        let name = self.texts.give(self.u, &name)?;
        let Some(which) = pick(self.u, &self.tensors)? else { return Ok(()) };
        let (tensor, major) = self.tensors[which];
        let mut value = 0;
        let to = place(self.u, &mut value)?;
        // Version 7 is refused before the tensor is looked at.
        let told = if rarely(self.u, 32)? { 7 } else { major };
        let trains = self.u.int_in_range(0..=1)?;
        // SAFETY: a live tensor of the version told.
        let status = unsafe { tn_graph_parameter_dlpack(graph, name, told, tensor, trains, to) };
        if self.told(status, context) {
            // It is the graph's now.
            self.tensors.swap_remove(which);
            self.graphs[at.unwrap_or_default()].values.push(value);
            reached("a tensor taken");
        }
        Ok(())
    }

    /// An op by name, with a case's attributes.
    fn op(&mut self) -> Chosen<()> {
        let (at, graph, context) = self.any_graph()?;
        let entry = self.u.choose(table())?;
        let cases = (entry.cases)();
        let (mut attrs, mut count) = (Vec::new(), 2);
        if !cases.is_empty() {
            let case = self.u.choose(&cases)?;
            count = case.operands.len();
            for (name, value) in case.op.attrs() {
                attrs.push((self.texts.give(self.u, name)?, value));
            }
        }
        let blank = || tn_attr {
            struct_size: size_of::<tn_attr>(),
            name: std::ptr::null(),
            kind: 0,
            integer: 0,
            number: 0.0,
            string: std::ptr::null(),
            integers: std::ptr::null(),
            integer_count: 0,
        };
        let mut laid = Vec::new();
        for (name, value) in &attrs {
            let mut attr = tn_attr { name: *name, ..blank() };
            match value {
                Attr::Int(v) => attr.integer = *v,
                Attr::Float(v) => (attr.kind, attr.number) = (1, *v),
                Attr::Bool(v) => (attr.kind, attr.integer) = (2, i64::from(*v)),
                Attr::Str(v) => (attr.kind, attr.string) = (3, self.texts.give(self.u, v)?),
                Attr::Ints(v) => {
                    (attr.kind, attr.integers, attr.integer_count) = (4, v.as_ptr(), v.len());
                }
            }
            if rarely(self.u, 32)? {
                attr.integer = self.u.arbitrary()?;
                attr.number = self.u.arbitrary()?;
            }
            if rarely(self.u, 64)? {
                attr.struct_size = self.u.int_in_range(0..=200)?;
            }
            laid.push(attr);
        }
        // The first states how far apart they lie: beyond what is there only where that is refused.
        if let Some(first) = laid.first_mut()
            && first.struct_size != size_of::<tn_attr>()
        {
            first.struct_size = first.struct_size.min(size_of::<tn_attr>() - 8);
        }
        let mut inputs = Vec::new();
        for _ in 0..count {
            inputs.push(self.any_value(at)?);
        }
        let mut outputs = vec![0u32; self.u.int_in_range(0..=3)?];
        let mut made = 0;
        let to = place(self.u, &mut made)?;
        let name = self.texts.give(self.u, entry.name)?;
        // SAFETY: arrays of the lengths told.
        let status = unsafe {
            tn_graph_add(
                graph,
                name,
                laid.as_ptr(),
                laid.len(),
                inputs.as_ptr(),
                inputs.len(),
                outputs.as_mut_ptr(),
                outputs.len(),
                to,
            )
        };
        if self.told(status, context) {
            let known = if to.is_null() { 1 } else { made };
            outputs.truncate(known);
            self.graphs[at.unwrap_or_default()].values.extend(outputs);
            reached("an op");
        }
        Ok(())
    }

    fn text(&mut self) -> Chosen<()> {
        let (_, graph, context) = self.any_graph()?;
        let mut text = std::ptr::null();
        let to = place(self.u, &mut text)?;
        // SAFETY: a live graph or NULL.
        let status = unsafe {
            if rarely(self.u, 2)? { tn_graph_dump(graph, to) } else { tn_graph_graphviz(graph, to) }
        };
        if self.told(status, context) {
            // SAFETY: a text until the graph's next call.
            std::hint::black_box(unsafe { std::ffi::CStr::from_ptr(text) }.to_bytes().len());
        }
        Ok(())
    }

    fn shape(&mut self) -> Chosen<()> {
        let (at, graph, context) = self.any_graph()?;
        let value = self.any_value(at)?;
        let (mut dims, mut rank) = ([-1i64; 8], 9);
        let to = place(self.u, &mut rank)?;
        let dims_to = place(self.u, &mut dims)?;
        // SAFETY: room for eight.
        let status = unsafe { tn_graph_shape(graph, value, dims_to.cast(), to) };
        if self.told(status, context) {
            assert!(rank <= 8 && dims[..rank].iter().all(|&dim| dim >= 0));
        }
        Ok(())
    }

    fn send(&mut self) -> Chosen<()> {
        let (at, graph, context) = self.any_graph()?;
        let (name, kind) = (self.texts.give(self.u, "sent")?, dtype(self.u)?);
        let (value, trains) = (self.any_value(at)?, self.u.int_in_range(0..=1)?);
        // SAFETY: a live graph or NULL.
        let status = unsafe { tn_graph_send(graph, name, kind, value, trains) };
        self.told(status, context);
        Ok(())
    }

    fn mark(&mut self) -> Chosen<()> {
        let (at, graph, context) = self.any_graph()?;
        let value = self.any_value(at)?;
        // SAFETY: a live graph or NULL.
        let status = unsafe {
            if rarely(self.u, 2)? {
                let name = self.texts.give(self.u, "y")?;
                tn_graph_output(graph, name, value)
            } else {
                tn_graph_set_trainable(graph, value, self.u.int_in_range(0..=1)?)
            }
        };
        self.told(status, context);
        Ok(())
    }
}
