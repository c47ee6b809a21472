//! `avg_pool2d`: the mean of each window.

use tenon_kernels::conv::Conv;
use tenon_kernels::conv::pool::{Divisor, Pool2d};

use super::common::{all_f32, arity};
use super::window::{PoolWindow, pool_cost};
use super::{Attr, AttrReader, Attrs, AvgPool2dGrad, Case, Cost, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::Result;
use crate::tensor::TensorDesc;

/// The mean of each window of `x [N, C, H, W]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvgPool2d {
    /// The windows; their dilation must be 1.
    pub window: PoolWindow,
    /// What the sums are divided by.
    pub divisor: Divisor,
}

impl AvgPool2d {
    /// The attributes, for this op and its gradient.
    pub(super) fn named(&self) -> Attrs {
        let mut attrs = self.window.named();
        attrs.retain(|(name, _)| *name != "dilation");
        attrs.push(("count_include_pad", (self.divisor != Divisor::Inside).into()));
        if let Divisor::Fixed(n) = self.divisor {
            attrs.push(("divisor_override", Attr::from(n)));
        }
        attrs
    }

    /// Reads the attributes that [`AvgPool2d::named`] writes.
    ///
    /// # Errors
    /// [`crate::Error::Attr`].
    pub(super) fn read(attrs: &mut AttrReader<'_>) -> Result<Self> {
        let window = PoolWindow::read(attrs)?;
        if window.dilation != [1, 1] {
            return Err(attrs.error("dilation", "must be 1 for an average"));
        }
        let padded = attrs.bool_or("count_include_pad", true)?;
        let divisor = match attrs.int_or("divisor_override", 0)? {
            0 if padded => Divisor::Padded,
            0 => Divisor::Inside,
            n => Divisor::Fixed(n),
        };
        Ok(Self { window, divisor })
    }

    fn pool(&self, inputs: &[&TensorDesc]) -> Result<Pool2d> {
        self.window.pool(Self::NAME, inputs, inputs[0].shape())
    }
}

impl Op for AvgPool2d {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        self.named()
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [x] = arity(Self::NAME, inputs)?;
        all_f32(Self::NAME, inputs)?;
        let pool = self.pool(inputs)?;
        let dims = [x.shape()[0], x.shape()[1], pool.rows.output, pool.cols.output];
        Ok(vec![TensorDesc::f32(&dims)?])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        let x = cx.desc(cx.input(0));
        let back = AvgPool2dGrad { pool: *self, input: [x.shape()[2], x.shape()[3]] };
        let dx = cx.add(back, &[cx.cotangent()])?;
        cx.set(0, dx);
        Ok(())
    }

    fn launch(&self, inputs: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        let pool = self.pool(inputs).expect("inference accepted these operands");
        Launch::Conv(Conv::AvgPool(pool, self.divisor))
    }

    fn cost(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Cost {
        pool_cost(&self.window, outputs[0].numel(), inputs, outputs)
    }
}

impl OpKind for AvgPool2d {
    const NAME: &'static str = "avg_pool2d";
    const TOLERANCE: Tolerance = Tolerance::scaled(1e-6);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Self::read(attrs)
    }

    fn cases() -> Vec<Case> {
        let plain = PoolWindow::square(2);
        let case = |window, divisor, x: [usize; 4]| Case::new(Self { window, divisor }).f32(&x);
        let over = PoolWindow { kernel: [3, 2], stride: [2, 1], padding: [1, 1], ..plain };
        let ceil = PoolWindow { ceil_mode: true, ..over };
        vec![
            case(plain, Divisor::Padded, [2, 3, 4, 6]),
            case(ceil, Divisor::Padded, [1, 2, 6, 5]),
            case(ceil, Divisor::Inside, [1, 2, 6, 5]),
            case(over, Divisor::Fixed(4), [1, 2, 5, 5]),
            case(plain, Divisor::Padded, [64, 16, 28, 28]).bench(),
        ]
    }
}
