//! Calls of what federated clients exchange.

use std::ffi::c_void;

use tenon::abi::*;

use super::Program;
use super::arguments::{Buffer, Laid, place};
use crate::reach::reached;
use crate::{Chosen, SIZES, damage, rarely};

impl Program<'_, '_> {
    pub(super) fn exchange_call(&mut self) -> Chosen<()> {
        match self.u.int_in_range(0..=7)? {
            0 | 1 => self.sets(),
            2 => self.sums(),
            3 | 4 => self.compress(),
            5 => self.add_message(),
            6 => self.secure(),
            _ => self.submodel(),
        }
    }

    /// A set of parameters as one vector.
    fn sets(&mut self) -> Chosen<()> {
        let (_, session, context) = self.any_session()?;
        let set = self.u.int_in_range(-1..=3)?;
        let (mut count, mut elements) = (0, 0);
        let (to, elements_to) = (place(self.u, &mut count)?, place(self.u, &mut elements)?);
        // SAFETY: a live session or NULL.
        let status = unsafe { tn_parameters_count(session, set, to, elements_to) };
        self.told(status, context);
        let mut a = Buffer::new(self.u, 4 * elements, 4)?;
        let mut b = Buffer::new(self.u, 4 * elements, 4)?;
        let n = a.len().min(b.len());
        // SAFETY: a live session or NULL; both vectors have so many elements.
        let status = unsafe {
            match self.u.int_in_range(0..=3)? {
                0 => tn_parameters_read(session, set, a.pointer(), a.len()),
                1 => tn_parameters_write(session, set, a.pointer(), a.len()),
                2 => tn_parameters_difference(session, set, a.pointer(), b.pointer(), n),
                _ => tn_parameters_add(session, set, 0.5, a.pointer(), a.len()),
            }
        };
        if self.told(status, context) {
            reached("a set");
        }
        Ok(())
    }

    /// Two vectors of a length.
    fn vectors(&mut self) -> Chosen<(Buffer, Buffer, usize)> {
        let size = 4 * self.u.int_in_range(0..=300)?;
        let (a, b) = (Buffer::new(self.u, size, 4)?, Buffer::new(self.u, size, 4)?);
        let n = a.len().min(b.len());
        Ok((a, b, n))
    }

    fn sums(&mut self) -> Chosen<()> {
        let (context, at) = self.any_context()?;
        let (mut a, mut b, n) = self.vectors()?;
        let weight = if rarely(self.u, 8)? { self.u.arbitrary()? } else { 0.5 };
        // SAFETY: a live context or NULL; both vectors have so many elements.
        let status = unsafe {
            if rarely(self.u, 2)? {
                tn_update_average(context, a.pointer(), b.pointer(), n)
            } else {
                tn_update_accumulate(context, weight, a.pointer(), b.pointer(), n)
            }
        };
        self.told(status, at);
        Ok(())
    }

    fn compress(&mut self) -> Chosen<()> {
        let (context, at) = self.any_context()?;
        let (mut update, mut residual, n) = self.vectors()?;
        let how = tn_compression {
            struct_size: size_of::<tn_compression>(),
            keep: if rarely(self.u, 16)? {
                *self.u.choose(SIZES)?
            } else {
                self.u.int_in_range(0..=n as u64)?
            },
            bits: *self.u.choose(&[0, 2, 4, 8, 32, 3])?,
            unused: 0,
            seed: self.u.arbitrary()?,
            round: self.u.arbitrary()?,
        };
        let mut how = Laid::new(self.u, how)?;
        let mut size = 0;
        let claimed = if rarely(self.u, 16)? { *self.u.choose(SIZES)? as usize } else { n };
        let to = place(self.u, &mut size)?;
        // SAFETY: a live context or NULL.
        let status = unsafe { tn_update_bound(context, how.pointer(), claimed, to) };
        self.told(status, at);
        let mut bytes = Buffer::new(self.u, size.min(1 << 16), 1)?;
        let mut taken = 0;
        let to = place(self.u, &mut taken)?;
        let (update, residual) = (update.pointer::<f32>(), residual.pointer::<f32>());
        // SAFETY: vectors of so many elements, and so many bytes.
        let status = unsafe {
            let (room, len) = (bytes.pointer::<c_void>(), bytes.len());
            tn_update_compress(context, how.pointer(), update, residual, n, room, len, to)
        };
        if self.told(status, at) {
            let mut message = bytes.bytes()[..taken].to_vec();
            damage(self.u, &mut message)?;
            self.messages.push(message);
            reached("a message");
        }
        Ok(())
    }

    fn add_message(&mut self) -> Chosen<()> {
        let (context, at) = self.any_context()?;
        let Some(message) = self.messages.pop() else { return Ok(()) };
        let mut bytes = Buffer::new(self.u, message.len(), 1)?;
        let len = bytes.len().min(message.len());
        bytes.bytes()[..len].copy_from_slice(&message[..len]);
        // SAFETY: zeros are a value.
        let mut told: tn_message = unsafe { std::mem::zeroed() };
        told.struct_size = size_of::<tn_message>();
        // SAFETY: so many bytes, a struct of its size.
        let status =
            unsafe { tn_update_inspect(context, bytes.pointer(), bytes.len(), &raw mut told) };
        self.told(status, at);
        let mut sum = Buffer::new(self.u, 4 * told.count.min(1 << 16) as usize, 4)?;
        // SAFETY: so many bytes and elements.
        let status = unsafe {
            tn_update_add(context, 1.0, bytes.pointer(), bytes.len(), sum.pointer(), sum.len())
        };
        if self.told(status, at) {
            reached("a message added");
        }
        Ok(())
    }

    fn secure(&mut self) -> Chosen<()> {
        let (context, at) = self.any_context()?;
        let (mut a, mut b, n) = self.vectors()?;
        let clip = if rarely(self.u, 8)? { self.u.arbitrary()? } else { 2.0 };
        let clients = self.u.int_in_range(0..=5)?;
        let fixed = tn_fixed_point { struct_size: size_of::<tn_fixed_point>(), clip, clients };
        let mut fixed = Laid::new(self.u, fixed)?;
        let mut masks: Vec<tn_mask> = Vec::new();
        for _ in 0..self.u.int_in_range(0..=3)? {
            let (seed, round, negative) = (self.u.arbitrary()?, 1, self.u.int_in_range(0..=1)?);
            let unused = 0;
            masks.push(tn_mask {
                struct_size: size_of::<tn_mask>(),
                seed,
                round,
                negative,
                unused,
            });
        }
        // SAFETY: a live context or NULL; both vectors have so many elements.
        let status = unsafe {
            match self.u.int_in_range(0..=3)? {
                0 => tn_secure_encode(context, fixed.pointer(), 1.0, a.pointer(), b.pointer(), n),
                1 => tn_secure_mask(context, masks.as_ptr(), masks.len(), a.pointer(), a.len()),
                2 => tn_secure_add(context, a.pointer(), b.pointer(), n),
                _ => tn_secure_decode(context, fixed.pointer(), 1.0, a.pointer(), b.pointer(), n),
            }
        };
        self.told(status, at);
        Ok(())
    }

    fn submodel(&mut self) -> Chosen<()> {
        let (context, at) = self.any_context()?;
        let names = ["a.weight", "b.weight", "b.bias"];
        let (mut parameters, mut axes): (Vec<tn_parameter>, Vec<tn_axis>) =
            (Vec::new(), Vec::new());
        let mut whole = 0usize;
        for _ in 0..self.u.int_in_range(1..=3)? {
            // SAFETY: zeros are a value.
            let mut parameter: tn_parameter = unsafe { std::mem::zeroed() };
            parameter.struct_size = size_of::<tn_parameter>();
            let name = *self.u.choose(&names)?;
            parameter.name = self.texts.give(self.u, name)?;
            parameter.rank = if rarely(self.u, 32)? {
                self.u.arbitrary()?
            } else {
                self.u.int_in_range(0..=3)?
            };
            let rank = parameter.rank.min(8);
            for dim in &mut parameter.dims[..rank] {
                let hostile = rarely(self.u, 64)?;
                *dim = if hostile {
                    *self.u.choose(SIZES)? as i64
                } else {
                    self.u.int_in_range(0..=5)?
                };
            }
            let dims = parameter.dims[..rank].iter().map(|&d| d as usize);
            whole = whole.saturating_add(dims.fold(1, usize::saturating_mul));
            parameters.push(parameter);
        }
        for _ in 0..self.u.int_in_range(0..=3)? {
            let ending = *self.u.choose(&[".weight", "bias", "a.weight"])?;
            axes.push(tn_axis {
                struct_size: size_of::<tn_axis>(),
                parameters: self.texts.give(self.u, ending)?,
                axis: self.u.int_in_range(0..=3)?,
                unit: self.u.int_in_range(0..=2)?,
                length: if rarely(self.u, 16)? {
                    *self.u.choose(SIZES)?
                } else {
                    self.u.int_in_range(0..=3)?
                },
                start: if rarely(self.u, 16)? {
                    *self.u.choose(SIZES)?
                } else {
                    self.u.int_in_range(0..=9)?
                },
            });
        }
        let given = tn_submodel {
            struct_size: size_of::<tn_submodel>(),
            parameters: parameters.as_ptr(),
            parameter_count: parameters.len(),
            axes: axes.as_ptr(),
            axis_count: axes.len(),
        };
        let mut given = Laid::new(self.u, given)?;
        let mut count = 0;
        let to = place(self.u, &mut count)?;
        // SAFETY: a live context or NULL; a struct of the size it states, whose arrays are there.
        let status = unsafe { tn_submodel_count(context, given.pointer(), to) };
        self.told(status, at);
        let mut part = Buffer::new(self.u, 4 * count.min(1 << 12), 4)?;
        let mut all = Buffer::new(self.u, 4 * whole.min(1 << 12), 4)?;
        let mut weights = Buffer::new(self.u, 4 * whole.min(1 << 12), 4)?;
        // SAFETY: as above; vectors of the lengths told.
        let status = unsafe {
            let (part, parts) = (part.pointer::<f32>(), part.len());
            if rarely(self.u, 2)? {
                let n = all.len().min(weights.len());
                let (sum, weights) = (all.pointer(), weights.pointer());
                tn_submodel_add(context, given.pointer(), 0.5, part, parts, sum, weights, n)
            } else {
                tn_submodel_extract(context, given.pointer(), all.pointer(), all.len(), part, parts)
            }
        };
        if self.told(status, at) {
            reached("a sub-model");
        }
        Ok(())
    }
}
