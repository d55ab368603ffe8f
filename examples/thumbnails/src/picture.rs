//! Pictures: PNG in, smaller, PNG out.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;

/// The largest picture that is read, in pixels. It takes four bytes for each.
const MOST_PIXELS: u64 = 50_000_000;

/// Pixels as red, green, blue and opacity, row by row.
pub struct Picture {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

impl Picture {
    pub fn read(path: &Path) -> Result<Picture, String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        let mut decoder = png::Decoder::new(BufReader::new(file));
        decoder.set_transformations(png::Transformations::normalize_to_color8() | png::Transformations::ALPHA);
        let mut reader = decoder.read_info().map_err(|error| error.to_string())?;
        let (width, height) = reader.info().size();
        if u64::from(width) * u64::from(height) > MOST_PIXELS {
            return Err(format!("{width} × {height} pixels are too many"));
        }
        let size = reader.output_buffer_size().ok_or("it is too large")?;
        let mut pixels = vec![0; size];
        let frame = reader.next_frame(&mut pixels).map_err(|error| error.to_string())?;
        pixels.truncate(frame.buffer_size());
        if frame.color_type == png::ColorType::GrayscaleAlpha {
            pixels = pixels.chunks_exact(2).flat_map(|pixel| [pixel[0], pixel[0], pixel[0], pixel[1]]).collect();
        }
        Ok(Picture { width, height, pixels })
    }

    /// The same in small, if its longer side is longer than that: each pixel is the mean of those it stands for.
    pub fn shrunk_to(self, side: u32) -> Picture {
        let longer = self.width.max(self.height);
        if longer <= side {
            return self;
        }
        let scaled = |length: u32| u32::try_from(u64::from(length) * u64::from(side) / u64::from(longer)).unwrap_or(1).max(1);
        let (width, height) = (scaled(self.width), scaled(self.height));
        let bounds = |place: u32, small: u32, large: u32| {
            let at = |place: u32| u64::from(place) * u64::from(large) / u64::from(small);
            (at(place) as usize, at(place + 1) as usize)
        };
        let mut pixels = Vec::with_capacity(width as usize * height as usize * 4);
        for y in 0..height {
            let (top, bottom) = bounds(y, height, self.height);
            for x in 0..width {
                let (left, right) = bounds(x, width, self.width);
                pixels.extend(self.mean(left..right, top..bottom));
            }
        }
        Picture { width, height, pixels }
    }

    /// The mean of a rectangle, in which transparent pixels have no colour.
    fn mean(&self, columns: std::ops::Range<usize>, rows: std::ops::Range<usize>) -> [u8; 4] {
        let (mut sums, mut opacity, mut count) = ([0_u64; 3], 0_u64, 0_u64);
        for row in rows {
            let start = row * self.width as usize;
            let line = &self.pixels[(start + columns.start) * 4..(start + columns.end) * 4];
            for pixel in line.chunks_exact(4) {
                let alpha = u64::from(pixel[3]);
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += u64::from(*value) * alpha;
                }
                opacity += alpha;
                count += 1;
            }
        }
        let byte = |value: u64| u8::try_from(value).unwrap_or(u8::MAX);
        let [red, green, blue] = sums.map(|sum| byte(sum.checked_div(opacity).unwrap_or(0)));
        [red, green, blue, byte(opacity.checked_div(count).unwrap_or(0))]
    }

    pub fn write(&self, path: &Path) -> Result<(), String> {
        let file = File::create(path).map_err(|error| error.to_string())?;
        let mut encoder = png::Encoder::new(BufWriter::new(file), self.width, self.height);
        encoder.set_color(png::ColorType::Rgba);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(|error| error.to_string())?;
        writer.write_image_data(&self.pixels).map_err(|error| error.to_string())?;
        writer.finish().map_err(|error| error.to_string())
    }
}
