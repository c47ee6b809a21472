//! The roofline plot (Williams, Waterman and Patterson, 2009): rate over operations a byte, under the
//! roofs of arithmetic and memory.

use std::fmt::Write;

use tenon_runtime::memory::escape;

use super::peaks::Peaks;
use super::row::Row;
use super::time;
use crate::chart::COLOURS;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 48.0;

/// Both axes are logarithmic, between these powers of ten.
const X: (f64, f64) = (-2.0, 3.0);
const Y: (f64, f64) = (-1.0, 4.0);

fn x(intensity: f64) -> f64 {
    let at = (intensity.log10().clamp(X.0, X.1) - X.0) / (X.1 - X.0);
    LEFT + (WIDTH - LEFT - RIGHT) * at
}

fn y(gflops: f64) -> f64 {
    let at = (gflops.log10().clamp(Y.0, Y.1) - Y.0) / (Y.1 - Y.0);
    HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * at
}

/// The plot of all rows that have operations and bytes.
pub(super) fn svg(peaks: &[Peaks], rows: &[Row]) -> String {
    let mut out = format!(
        "<svg role=\"img\" aria-label=\"Roofline of all kernels; the table below has the same figures\" \
         viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n"
    );
    grid(&mut out);
    for peaks in peaks {
        roofs(&mut out, peaks);
    }
    let mut kinds: Vec<&str> = rows.iter().map(|row| row.dtype.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for row in rows.iter().filter(|row| row.gflops > 0.0 && row.gbps > 0.0) {
        let kind = kinds.iter().position(|kind| *kind == row.dtype).unwrap_or(0);
        let of_roof = row
            .fraction_of_peak
            .map_or(String::new(), |fraction| format!(", {:.0} % of its roof", 100.0 * fraction));
        let _ = writeln!(
            out,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4.5\" fill=\"{}\" fill-opacity=\".75\" \
             stroke=\"#fff\" tabindex=\"0\"><title>{} {} {}: {}, {:.1} GFLOP/s, {:.1} \
             GB/s{of_roof}</title></circle>",
            x(row.gflops / row.gbps),
            y(row.gflops),
            COLOURS[kind % COLOURS.len()],
            escape(&row.kernel),
            escape(&row.shape),
            escape(&row.dtype),
            time(row.median_s),
            row.gflops,
            row.gbps,
        );
    }
    for (i, kind) in kinds.iter().enumerate() {
        let (cx, cy) = (LEFT + 14.0, TOP + 12.0 + 17.0 * i as f64);
        let _ = writeln!(
            out,
            "<circle cx=\"{cx}\" cy=\"{cy}\" r=\"4.5\" fill=\"{}\"/><text x=\"{}\" y=\"{}\">{}</text>",
            COLOURS[i % COLOURS.len()],
            cx + 10.0,
            cy + 4.0,
            escape(kind)
        );
    }
    out.push_str("</svg>\n");
    out
}

/// Lines at the powers of ten, and what the axes are.
fn grid(out: &mut String) {
    for power in X.0 as i32..=X.1 as i32 {
        let at = x(10f64.powi(power));
        let _ = writeln!(
            out,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{}\" stroke=\"#e4e4e4\"/>\
             <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 16.0,
            10f64.powi(power)
        );
    }
    for power in Y.0 as i32..=Y.1 as i32 {
        let at = y(10f64.powi(power));
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#e4e4e4\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0,
            10f64.powi(power)
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">floating-point operations a byte</text>\
         <text transform=\"translate(14 {}) rotate(-90)\" text-anchor=\"middle\">GFLOP/s</text>",
        LEFT.midpoint(WIDTH - RIGHT),
        HEIGHT - 10.0,
        TOP.midpoint(HEIGHT - BOTTOM),
    );
}

/// The roofs of arithmetic, and of memory beyond and within caches.
fn roofs(out: &mut String, peaks: &Peaks) {
    let top = peaks.int8_gflops.max(peaks.f32_gflops);
    let mut line = |from: (f64, f64), to: (f64, f64), name: &str| {
        let (x1, y1, x2, y2) = (x(from.0), y(from.1), x(to.0), y(to.1));
        let _ = writeln!(
            out,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#555\"/>"
        );
        // Names stand at the end of flat roofs and along sloping ones.
        let slope = (y2 - y1).atan2(x2 - x1).to_degrees();
        let (at, anchor) = match from.1 == to.1 {
            true => ((x2 - 4.0, y2 - 5.0), "end"),
            false => ((x1 + 0.45 * (x2 - x1), y1 + 0.45 * (y2 - y1) - 5.0), "middle"),
        };
        let _ = writeln!(
            out,
            "<text transform=\"translate({:.1} {:.1}) rotate({slope:.1})\" \
             text-anchor=\"{anchor}\" fill=\"#555\">{name}</text>",
            at.0, at.1
        );
    };
    let (_, memory) = peaks.memory();
    let mut roofs = vec![("f32", peaks.f32_gflops)];
    for (name, gflops) in [("bf16", peaks.bf16_gflops), ("int8", peaks.int8_gflops)] {
        // A level without products of its own for a type has the roof of f32.
        if gflops > 1.05 * peaks.f32_gflops {
            roofs.push((name, gflops));
        }
    }
    for (name, gflops) in roofs {
        let name = format!("{name} {gflops:.0} GFLOP/s ({})", peaks.isa);
        line((gflops / memory, gflops), (10f64.powf(X.1), gflops), &name);
    }
    let first = 10f64.powf(X.0);
    line((first, first * memory), (top / memory, top), &format!("memory {memory:.0} GB/s"));
    if let Some((_, cached)) = peaks.triad_gbps.first() {
        let begin = (10f64.powf(Y.0) / cached).max(first);
        line(
            (begin, begin * cached),
            (top / cached, top),
            &format!("first cache {cached:.0} GB/s"),
        );
    }
}
