//! What clients send and servers add up: compressed updates, masks, sub-models.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tenon_fuzz::reach::{expect, reached};
use tenon_fuzz::{Chosen, SIZES, Unstructured, damage, rarely};
use tenon_kernels::Isa;
use tenon_kernels::exchange::{Bits, Mask};
use tenon_kernels::random::Philox;
use tenon_runtime::Shape;
use tenon_runtime::federated::compress::{self, Compression};
use tenon_runtime::federated::message::Message;
use tenon_runtime::federated::secure::{self, FixedPoint};
use tenon_runtime::federated::submodel::{Axis, Submodel};
use tenon_runtime::federated::sums;

fuzz_target!(
    init: expect(&["compressed", "added", "refused unchanged", "masked", "extracted"]),
    |data: &[u8]| {
        let u = &mut Unstructured::new(data);
        let _ = match u.int_in_range(0..=4) {
            Ok(0) => hostile_message(u),
            Ok(1) => masks(u),
            Ok(2) => submodel(u),
            _ => message(u),
        };
    }
);

/// Any level must do the same.
fn isa(u: &mut Unstructured<'_>) -> Chosen<Isa> {
    let all: Vec<Isa> = Isa::available().collect();
    u.choose(&all).copied()
}

/// A vector with something of everything.
fn vector(u: &mut Unstructured<'_>, len: usize) -> Chosen<Vec<f32>> {
    let special = [0.0, -0.0, 1.0, -1.0, 1e-40, f32::MAX, f32::MIN, 1e-20];
    let seed: u32 = u.arbitrary()?;
    let mut all: Vec<f32> = (0..len as u32)
        .map(|i| i.wrapping_mul(0x9e37_79b9).wrapping_add(seed) as i32 as f32 / (1u32 << 31) as f32)
        .collect();
    for _ in 0..u.int_in_range(0..=6)? {
        let value = if rarely(u, 8)? { u.arbitrary()? } else { *u.choose(&special)? };
        if len > 0 {
            let at = u.choose_index(len)?;
            all[at] = value;
        }
    }
    Ok(all)
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// What is compressed comes back, and with what was not sent makes the whole again; damaged bytes add
/// nothing, or something of the right length.
fn message(u: &mut Unstructured<'_>) -> Chosen<()> {
    let isa = isa(u)?;
    let len = if rarely(u, 32)? { 70_000 } else { u.int_in_range(0..=700)? };
    let update = vector(u, len)?;
    let widths = [2, 4, 8].map(Bits::from_count);
    let how = Compression {
        keep: if rarely(u, 2)? { 0 } else { u.int_in_range(0..=len + 2)? },
        bits: if rarely(u, 3)? { None } else { *u.choose(&widths)? },
        seed: u.arbitrary()?,
        round: u.arbitrary()?,
    };
    let mut residual = if rarely(u, 2)? { Some(vector(u, len)?) } else { None };
    let before = residual.clone();
    let mut bytes = vec![0x5a; how.most_bytes(len).expect("a small vector")];
    let made = compress::compress(&isa, &how, &update, residual.as_deref_mut(), &mut bytes);
    let Ok(size) = made else {
        // What is not finite, or overflows when the residual is added.
        if update.iter().any(|x| !x.is_finite()) {
            assert_eq!(before.as_deref().map(bits), residual.as_deref().map(bits));
        }
        return Ok(());
    };
    reached("compressed");
    bytes.truncate(size);
    let mut sum = vec![0f32; len];
    compress::add(&isa, 1.0, &bytes, &mut sum).expect("what was compressed is read");
    if let (None, Some(left), Some(before)) = (how.bits, &residual, &before) {
        for i in 0..len {
            assert_eq!((sum[i] + left[i]), (update[i] + before[i]), "element {i}");
        }
    }
    damage(u, &mut bytes)?;
    let weight = *u.choose(&[1.0, 0.5, -1.0, 0.0])?;
    let other = if rarely(u, 8)? { len + 1 } else { len };
    add_any(isa, weight, &bytes, other);
    Ok(())
}

/// Adds bytes that may be anything.
fn add_any(isa: Isa, weight: f32, bytes: &[u8], len: usize) {
    let before = vec![0.25f32; len];
    let mut sum = before.clone();
    let inspected = Message::read(bytes).and_then(|message| message.check());
    match compress::add(&isa, weight, bytes, &mut sum) {
        Ok(()) => {
            reached("added");
            assert!(inspected.is_ok());
        }
        Err(_) => {
            reached("refused unchanged");
            assert_eq!(bits(&before), bits(&sum));
        }
    }
}

/// Bytes with a right beginning and whatever follows.
fn hostile_message(u: &mut Unstructured<'_>) -> Chosen<()> {
    let isa = isa(u)?;
    let size = |u: &mut Unstructured<'_>| -> Chosen<u64> {
        if rarely(u, 8)? { u.choose(SIZES).copied() } else { u.int_in_range(0..=600) }
    };
    let (count, kept, places) = (size(u)?, size(u)?, size(u)?);
    let mut bytes = b"TNUP\x01\x00".to_vec();
    bytes.push(*u.choose(&[32, 2, 4, 8, 7])?);
    bytes.push(if rarely(u, 2)? { 255 } else { u.int_in_range(0..=33)? });
    for number in [count, kept, places] {
        bytes.extend(number.to_le_bytes());
    }
    let rest = u.bytes(u.len())?;
    bytes.extend(rest);
    add_any(isa, 1.0, &bytes, count.min(1 << 16) as usize);
    Ok(())
}

/// Masks cancel, whatever the order; what was encoded comes back to within a unit for each client.
fn masks(u: &mut Unstructured<'_>) -> Chosen<()> {
    let (isa, len) = (isa(u)?, u.int_in_range(0..=300)?);
    let clients = u.int_in_range(0..=4)?;
    let clip = if rarely(u, 4)? { u.arbitrary()? } else { 4.0 };
    let fixed = FixedPoint { clip, clients };
    let mut sum = vec![0u32; len];
    let mut want = vec![0f64; len];
    for client in 0..clients {
        let x = vector(u, len)?;
        let mut words = vec![0; len];
        let Ok(()) = secure::encode(&isa, fixed, 1.0, &x, &mut words) else { return Ok(()) };
        let masks: Vec<Mask> = (0..clients)
            .filter(|&other| other != client)
            .map(|other| Mask {
                random: Philox::new(u64::from(client.min(other) * 8 + client.max(other)), 3),
                negative: client > other,
            })
            .collect();
        secure::mask(&isa, &masks, &mut words);
        secure::accumulate(&isa, &words, &mut sum).expect("as many");
        for (want, x) in want.iter_mut().zip(x) {
            let x = if x.is_nan() { 0.0 } else { f64::from(x) };
            *want += x.clamp(-f64::from(clip), f64::from(clip));
        }
    }
    let mut x = vec![0f32; len];
    let Ok(()) = secure::decode(&isa, fixed, 1.0, &sum, &mut x) else { return Ok(()) };
    reached("masked");
    let unit = 1.0 / f64::from(fixed.scale().expect("it was used"));
    for (got, want) in x.iter().zip(&want) {
        let allowed = f64::from(clients) * unit + want.abs() * 1e-6;
        assert!((f64::from(*got) - want).abs() <= allowed, "{got} for {want}, unit {unit}");
    }
    Ok(())
}

/// A sub-model's elements go back to where they came from.
fn submodel(u: &mut Unstructured<'_>) -> Chosen<()> {
    let isa = isa(u)?;
    let names = ["a.weight", "a.bias", "b.weight", ""];
    let mut parameters = Vec::new();
    for _ in 0..u.int_in_range(0..=3)? {
        let mut dims = Vec::new();
        for _ in 0..u.int_in_range(0..=4)? {
            let hostile = rarely(u, 64)?;
            dims.push(if hostile { *u.choose(SIZES)? as usize } else { u.int_in_range(0..=6)? });
        }
        let Ok(shape) = Shape::new(&dims) else { return Ok(()) };
        parameters.push((*u.choose(&names)?, shape));
    }
    let mut axes = Vec::new();
    for _ in 0..u.int_in_range(0..=3)? {
        let any = |u: &mut Unstructured<'_>| -> Chosen<usize> {
            if rarely(u, 16)? { Ok(*u.choose(SIZES)? as usize) } else { u.int_in_range(0..=6) }
        };
        let (axis, length, start, unit) = (any(u)?, any(u)?, any(u)?, any(u)?);
        let parameters = u.choose(&[".weight", ".bias", "a.weight", "", "c"])?.to_string();
        axes.push(Axis { parameters, axis, length, start, unit: unit.max(1) });
    }
    let Ok(part) = Submodel::new(&parameters, &axes) else { return Ok(()) };
    if part.whole_count() > 1 << 16 {
        return Ok(());
    }
    assert!(part.part_count() <= part.whole_count());
    let whole: Vec<f32> = (0..part.whole_count()).map(|i| i as f32 + 1.0).collect();
    let mut out = vec![0f32; part.part_count()];
    part.extract(&whole, &mut out).expect("lengths that it gives");
    let (mut sum, mut weights) = (vec![0f32; whole.len()], vec![0f32; whole.len()]);
    part.add(&isa, 2.0, &out, &mut sum, &mut weights).expect("the same lengths");
    reached("extracted");
    for ((sum, weight), whole) in sum.iter().zip(&weights).zip(&whole) {
        assert!((*weight, *sum) == (2.0, 2.0 * whole) || (*weight, *sum) == (0.0, 0.0));
    }
    assert_eq!(weights.iter().filter(|&&w| w > 0.0).count(), part.part_count());
    sums::average(&isa, &weights, &mut sum).expect("the same lengths");
    Ok(())
}
