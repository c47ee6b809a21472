//! Convolutions, forward and back.

use std::io::{Seek, Write};

use tenon_runtime::Result;

use crate::npu::{Node, Window};

use super::super::program::Arg;
use super::super::proto::DataType;
use super::{Emitter, data_type, ints, is_constant, unsupported};

impl<W: Write + Seek> Emitter<'_, '_, W> {
    pub(super) fn conv(&mut self, node: &Node, window: &Window) {
        let graph = self.graph;
        let [x, w] = [node.inputs[0], node.inputs[1]];
        let mut kernel = self.name(w);
        let mut window = *window;
        if !is_constant(graph, w) {
            let float = data_type(&graph.ty(w).dtype);
            kernel = self.spread(kernel, graph.shape(w), float, window.dilation);
            window.dilation = [1, 1];
        }
        let of = graph.ty(node.output);
        let typed = (data_type(&of.dtype), &of.shape[..]);
        let bias = node.inputs.get(2).map(|&bias| (self.name(bias), graph.is_const(bias)));
        let to = self.name(node.output);
        let Some((bias, false)) = &bias else {
            let bias = bias.as_ref().map(|(bias, _)| &bias[..]);
            return self.convolve(&to, &self.name(x), &kernel, bias, &window, typed);
        };
        // A bias that is no constant is added behind.
        let [product, shaped] = [self.fresh(), self.fresh()];
        self.convolve(&product, &self.name(x), &kernel, None, &window, typed);
        self.reshape(&shaped, bias, typed.0, &[1, of.shape[1], 1, 1]);
        self.writer.op("add", &to, &[("x", Arg::Var(&product)), ("y", Arg::Var(&shaped))], typed);
    }

    fn convolve(
        &mut self,
        to: &str,
        x: &str,
        w: &str,
        bias: Option<&str>,
        window: &Window,
        typed: (DataType, &[usize]),
    ) {
        let [strides, dilations] = [ints(&window.stride), ints(&window.dilation)];
        let pad = ints(window.pad.as_flattened());
        let mut inputs = vec![("x", Arg::Var(x)), ("weight", Arg::Var(w))];
        inputs.extend(bias.map(|bias| ("bias", Arg::Var(bias))));
        inputs.extend([
            ("strides", Arg::Ints(&strides)),
            ("pad_type", Arg::Word("custom")),
            ("pad", Arg::Ints(&pad)),
            ("dilations", Arg::Ints(&dilations)),
            ("groups", Arg::Int(window.groups as i32)),
        ]);
        self.writer.op("conv", to, &inputs, typed);
    }

    /// A convolution turned back: by its own operation for a constant kernel; else the convolution of
    /// `x`, spread by the strides, with the kernel turned round and its channels exchanged.
    pub(super) fn conv_transpose(
        &mut self,
        node: &Node,
        window: &Window,
        size: [usize; 2],
    ) -> Result<()> {
        let graph = self.graph;
        let [x, w] = [node.inputs[0], node.inputs[1]];
        let of = graph.ty(node.output);
        let float = data_type(&of.dtype);
        let to = self.name(node.output);
        if is_constant(graph, w) {
            let [strides, dilations] = [ints(&window.stride), ints(&window.dilation)];
            let (x, w) = (self.name(x), self.name(w));
            let inputs = [
                ("x", Arg::Var(&x)),
                ("weight", Arg::Var(&w)),
                ("pad", Arg::Ints(&ints(window.pad.as_flattened()))),
                ("output_shape", Arg::Ints(&ints(&of.shape))),
                ("pad_type", Arg::Word("custom")),
                ("strides", Arg::Ints(&strides)),
                ("dilations", Arg::Ints(&dilations)),
                ("groups", Arg::Int(window.groups as i32)),
            ];
            self.writer.op("conv_transpose", &to, &inputs, (float, &of.shape));
            return Ok(());
        }
        let &[o, c, kh, kw] = graph.shape(w) else { unreachable!("four axes") };
        let g = window.groups;
        let pad = turned(window, graph.shape(x), graph.shape(w), size)
            .ok_or_else(|| unsupported(graph, node))?;
        let [apart, exchanged, together, flipped] = [(); 4].map(|()| self.fresh());
        self.reshape(&apart, &self.name(w), float, &[g, o / g, c, kh, kw]);
        let inputs = [("x", Arg::Var(&apart)), ("perm", Arg::Ints(&[0, 2, 1, 3, 4]))];
        self.writer.op("transpose", &exchanged, &inputs, (float, &[g, c, o / g, kh, kw]));
        let shape = [g * c, o / g, kh, kw];
        self.reshape(&together, &exchanged, float, &shape);
        let inputs = [("x", Arg::Var(&together)), ("axes", Arg::Ints(&[2, 3]))];
        self.writer.op("reverse", &flipped, &inputs, (float, &shape));
        let kernel = self.spread(flipped, &shape, float, window.dilation);
        let x = self.spread(self.name(x), graph.shape(x), float, window.stride);
        let window = Window { stride: [1, 1], dilation: [1, 1], pad, groups: g };
        self.convolve(&to, &x, &kernel, None, &window, (float, &of.shape));
        Ok(())
    }

    /// `x` of four axes with `steps - 1` zeros between rows and columns.
    fn spread(&mut self, x: String, shape: &[usize], float: DataType, steps: [usize; 2]) -> String {
        if steps == [1, 1] {
            return x;
        }
        let &[a, b, h, w] = shape else { unreachable!("four axes") };
        let [apart, padded, together, cut] = [(); 4].map(|()| self.fresh());
        self.reshape(&apart, &x, float, &[a * b, h, 1, w, 1]);
        let zeros = steps.map(|step| step as i32 - 1);
        let inputs = [
            ("x", Arg::Var(&apart)),
            ("pad", Arg::Ints(&[0, 0, 0, 0, 0, zeros[0], 0, 0, 0, zeros[1]])),
            ("mode", Arg::Word("constant")),
            ("constant_val", Arg::Float(float, 0.0)),
        ];
        self.writer.op("pad", &padded, &inputs, (float, &[a * b, h, steps[0], w, steps[1]]));
        self.reshape(&together, &padded, float, &[a, b, h * steps[0], w * steps[1]]);
        let size = [a, b, (h - 1) * steps[0] + 1, (w - 1) * steps[1] + 1];
        let inputs = [
            ("x", Arg::Var(&together)),
            ("begin", Arg::Ints(&[0; 4])),
            ("size", Arg::Ints(&ints(&size))),
        ];
        self.writer.op("slice_by_size", &cut, &inputs, (float, &size));
        cut
    }
}

/// Zeros around `x`, once it is spread by the strides, so that a window of the taps of `w` over it makes
/// `size`. There are none for a window that had whole taps in its own zeros.
pub(super) fn turned(
    window: &Window,
    x: &[usize],
    w: &[usize],
    size: [usize; 2],
) -> Option<[[usize; 2]; 2]> {
    let along = |axis: usize| {
        let spread = (x[2 + axis] - 1) * window.stride[axis] + 1;
        let reach = (w[2 + axis] - 1) * window.dilation[axis];
        let before = reach.checked_sub(window.pad[axis][0])?;
        Some([before, (size[axis] + reach).checked_sub(spread + before)?])
    };
    Some([along(0)?, along(1)?])
}
