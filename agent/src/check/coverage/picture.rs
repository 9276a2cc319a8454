//! Draws coverage as SVG 1.1: one bar for each day, with found recordings at the bottom and missing ones above.

use std::fmt::Write;

use super::{Coverage, Fate, Tally};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 320.0;
/// The margins around the bars: left, right, top, bottom.
const MARGIN: [f64; 4] = [56.0, 16.0, 72.0, 36.0];
/// The part of a day's width that its bar fills.
const BAR: f64 = 0.8;

/// Colours that people with red-green colour blindness can distinguish too (Okabe and Ito's palette).
fn colour(fate: Fate) -> &'static str {
    match fate {
        Fate::Found => "#009e73",
        Fate::Empty => "#f0e442",
        Fate::OutsidePattern => "#e69f00",
        Fate::NotRecorded => "#d55e00",
        Fate::RootMissing => "#cc79a7",
        Fate::NoId => "#999999",
    }
}

/// Draws the bars of all days.
pub fn draw(coverage: &Coverage) -> String {
    let [left, right, top, bottom] = MARGIN;
    let most = coverage.days.values().map(|day| day.calls).max().unwrap_or(1).max(1);
    let scale = (HEIGHT - top - bottom) / most as f64;
    let place = (WIDTH - left - right) / coverage.days.len().max(1) as f64;
    let base = HEIGHT - bottom;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\" role=\"img\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <text x=\"{left}\" y=\"24\" font-size=\"16\">{} of {} recordings found ({:.1} %)</text>\n",
        coverage.all.of(Fate::Found),
        coverage.all.calls,
        coverage.all.percent()
    );
    legend(&mut svg, &coverage.all);
    // Writing to a string cannot fail.
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{most}</text>\n\
         <text x=\"{:.1}\" y=\"{base:.1}\" text-anchor=\"end\">0</text>\n\
         <path d=\"M{left} {top}V{base}H{:.1}\" fill=\"none\" stroke=\"#666\"/>",
        left - 6.0,
        top + 10.0,
        left - 6.0,
        WIDTH - right
    );
    for (n, (day, tally)) in coverage.days.iter().enumerate() {
        let x = left + place * (n as f64 + (1.0 - BAR) / 2.0);
        bar(&mut svg, day, tally, (x, place * BAR, base, scale));
    }
    let first = coverage.days.keys().next();
    let last = coverage.days.keys().next_back();
    for (day, x, anchor) in [(first, left, "start"), (last, WIDTH - right, "end")] {
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            HEIGHT - 14.0,
            day.map_or("", String::as_str)
        );
    }
    svg + "</svg>\n"
}

fn legend(svg: &mut String, all: &Tally) {
    let mut x = MARGIN[0];
    for fate in Fate::ALL.into_iter().filter(|fate| all.of(*fate) > 0) {
        let text = format!("{} {}", fate.title(), all.of(fate));
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"38\" width=\"12\" height=\"12\" fill=\"{}\"/><text x=\"{:.1}\" y=\"49\">{text}</text>",
            colour(fate),
            x + 17.0
        );
        x += 40.0 + text.len() as f64 * 6.5;
    }
}

/// Draws one day. Its figures are the tooltip.
fn bar(svg: &mut String, day: &str, tally: &Tally, (x, width, base, scale): (f64, f64, f64, f64)) {
    let to_text: Vec<String> = Fate::ALL
        .into_iter()
        .filter(|fate| tally.of(*fate) > 0)
        .map(|fate| format!("{} {}", tally.of(fate), fate.title()))
        .collect();
    let _ = writeln!(svg, "<g><title>{day}: {}</title>", to_text.join(", "));
    let mut y = base;
    for fate in Fate::ALL.into_iter().filter(|fate| tally.of(*fate) > 0) {
        let height = tally.of(fate) as f64 * scale;
        y -= height;
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" fill=\"{}\"/>",
            colour(fate)
        );
    }
    svg.push_str("</g>\n");
}
