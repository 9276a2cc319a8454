//! Small line charts of the last hour, as SVG.

use crate::{cluster::minutes::SERIES_MINUTES, monitoring::board::Point};

/// Height of the drawing. Its width is one unit per minute.
const HEIGHT: f64 = 16.0;

/// The line of one metric as the `points` of an SVG polyline; empty if there is nothing to show.
pub(super) fn curve(points: &[Point], figure: impl Fn(&Point) -> Option<f64>) -> String {
    let Some(last) = points.last().map(|point| point.minute) else { return String::new() };
    let values: Vec<(i64, f64)> =
        points.iter().filter_map(|point| Some((point.minute, figure(point)?))).collect();
    let highest = values.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    if highest <= 0.0 {
        return String::new();
    }
    let place = |(minute, value): &(i64, f64)| {
        let x = SERIES_MINUTES as i64 - 1 - (last - minute);
        let y = HEIGHT - 1.0 - value / highest * (HEIGHT - 2.0);
        format!("{x},{y:.1}")
    };
    values.iter().map(place).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_minute_stands_at_the_right_and_the_highest_value_at_the_top() {
        let point = |minute, bytes| Point { minute, bytes, ..Point::default() };
        let points = [point(100, 5), point(101, 10), point(102, 0)];
        assert_eq!(curve(&points, |point| Some(point.bytes as f64)), "57,8.0 58,1.0 59,15.0");
        assert_eq!(curve(&points, |point| point.rtt_ms), "");
        assert_eq!(curve(&[point(1, 0)], |point| Some(point.bytes as f64)), "");
    }
}
