//! The picture: resources of the programs and times of searches.

use std::{error::Error, path::Path};

use plotters::prelude::*;

use crate::soak::samples::{Sample, Samples};

/// Size of the picture in pixels.
const SIZE: (u32, u32) = (960, 900);
const COLOURS: [RGBColor; 2] = [RGBColor(0x1f, 0x5f, 0xa8), RGBColor(0xc4, 0x4e, 0x1c)];

/// The value that is drawn for a second.
type Figure = fn(&Sample) -> Option<f64>;

/// One panel of the picture: a title, and the lines with their names.
struct Panel {
    title: &'static str,
    lines: [(&'static str, Figure); 2],
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

const PANELS: [Panel; 4] = [
    Panel {
        title: "resident memory, MiB",
        lines: [
            ("relay", |sample| Some(mib(sample.relay.resident))),
            ("largest agent", |sample| Some(mib(sample.agent.resident))),
        ],
    },
    Panel {
        title: "open descriptors",
        lines: [
            ("relay", |sample| Some(sample.relay.descriptors as f64)),
            ("agent with most", |sample| Some(sample.agent.descriptors as f64)),
        ],
    },
    Panel {
        title: "threads",
        lines: [
            ("relay", |sample| Some(sample.relay.threads as f64)),
            ("agent with most", |sample| Some(sample.agent.threads as f64)),
        ],
    },
    Panel {
        title: "searches, ms",
        lines: [
            ("slowest of a second", |sample| {
                sample.searches.map(|[_, slowest]| slowest.as_secs_f64() * 1000.0)
            }),
            ("median of a second", |sample| sample.searches.map(|[median, _]| median.as_secs_f64() * 1000.0)),
        ],
    },
];

/// Draws all samples.
pub(crate) fn draw(samples: &Samples, file: &Path) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    for (panel, area) in PANELS.iter().zip(root.split_evenly((PANELS.len(), 1))) {
        let figures = |line: Figure| {
            let seconds = samples.0.iter().enumerate();
            seconds.filter_map(move |(second, sample)| Some((second as f64 / 60.0, line(sample)?)))
        };
        let highest =
            panel.lines.iter().flat_map(|(_, line)| figures(*line)).map(|(_, y)| y).fold(1.0, f64::max);
        let minutes = samples.0.len() as f64 / 60.0;
        let mut chart = ChartBuilder::on(&area)
            .caption(panel.title, ("sans-serif", 16))
            .margin(8)
            .x_label_area_size(36)
            .y_label_area_size(48)
            .build_cartesian_2d(0.0..minutes, 0.0..highest * 1.1)?;
        chart.configure_mesh().light_line_style(WHITE).y_labels(5).x_labels(10).x_desc("minutes").draw()?;
        for ((name, line), colour) in panel.lines.iter().zip(COLOURS) {
            let series = LineSeries::new(figures(*line), colour.stroke_width(1));
            let key = move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2));
            chart.draw_series(series)?.label(*name).legend(key);
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.2))
            .position(SeriesLabelPosition::UpperLeft)
            .draw()?;
    }
    root.present()?;
    Ok(())
}
