//! Charts as SVG. What a chart shows stands in words or numbers beside it too.

use std::fmt::{self, Write as _};

use askama::filters::HtmlSafe;

/// A picture, ready to stand in a page.
#[derive(Debug, Clone, Default)]
pub(super) struct Svg(String);

impl HtmlSafe for Svg {}

impl fmt::Display for Svg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A part of a bar: the class of its colour, and how much it is.
pub(super) type Part = (&'static str, u64);

/// A bar of several parts, as wide as its place.
pub(super) fn bar(parts: &[Part]) -> Svg {
    const WIDTH: f64 = 1_000.0;
    let whole: u64 = parts.iter().map(|(_, much)| much).sum();
    let mut svg = String::from(
        r#"<svg class="bar" viewBox="0 0 1000 16" preserveAspectRatio="none" aria-hidden="true" focusable="false">"#,
    );
    svg.push_str(r#"<rect class="rest" width="1000" height="16"/>"#);
    let mut x = 0.0;
    for (class, much) in parts.iter().filter(|(_, much)| *much > 0) {
        let width = WIDTH * float(*much) / float(whole.max(1));
        // a string takes everything
        let _ = write!(
            svg,
            r#"<rect class="{class}" x="{x:.1}" width="{width:.1}" height="16"/>"#
        );
        x += width;
    }
    svg.push_str("</svg>");
    Svg(svg)
}

/// A line of a chart: the class of its colour, and its points. X goes from 0 to 1.
pub(super) struct Line<'p> {
    pub(super) class: &'static str,
    pub(super) points: &'p [(f64, f64)],
}

/// Lines over time, with their largest value at the top.
pub(super) fn lines(lines: &[Line<'_>]) -> Svg {
    let values = lines
        .iter()
        .flat_map(|line| line.points)
        .map(|point| point.1);
    let top = values.fold(1.0, f64::max);
    let mut svg = String::from(
        r#"<svg class="chart" viewBox="0 0 600 160" preserveAspectRatio="none" aria-hidden="true" focusable="false">"#,
    );
    svg.push_str(r#"<path class="grid" d="M0 .5H600M0 80H600M0 159.5H600"/>"#);
    for line in lines {
        let _ = write!(svg, r#"<polyline class="{}" points=""#, line.class);
        for (x, y) in line.points {
            let (x, y) = (x.clamp(0.0, 1.0) * 600.0, 160.0 - y / top * 156.0);
            let _ = write!(svg, "{x:.1},{y:.1} ");
        }
        svg.push_str(r#""/>"#);
    }
    svg.push_str("</svg>");
    Svg(svg)
}

/// Counts are drawn: what is lost beyond 2⁵³ nobody sees.
#[expect(clippy::cast_precision_loss, reason = "it is a picture")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}
