//! A filled-in template, as the layout engine sees it: laid out to be measured, or painted.

use std::collections::HashMap;
use std::sync::Arc;

use takumi::prelude::{Bitmap, Fonts, ImageSource, Node, Viewport};
use takumi::unstable::base::geometry::NodeId;
use takumi::unstable::base::html::{FromHtmlOptions, parse_html};
use takumi::unstable::base::layout::measure::MeasuredNode;
use takumi::unstable::base::layout::tree::{LayoutResults, RenderNode};
use takumi::unstable::base::style::StyleSheet;
use takumi::unstable::raster::RenderOptions;

use super::RenderError;

/// Size of 1rem, in pixels, at the size a template was designed for.
pub(super) const REM: f32 = 16.0;

/// One card before it is painted.
pub(super) struct Page<'a> {
    node: Node,
    css: Vec<String>,
    images: HashMap<Arc<str>, ImageSource>,
    fonts: &'a Fonts,
    viewport: Viewport,
}

/// A rectangle in pixels of the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rect {
    pub left: f32,
    pub top: f32,
    pub right: f32,
    pub bottom: f32,
}

/// A box of the layout.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    /// `id` of the element.
    pub id: Option<String>,
    /// Index of the box around it.
    pub parent: Option<usize>,
    /// With its border.
    pub outer: Rect,
    /// What is left for its content.
    pub content: Rect,
    /// The pieces of text that stand directly in it.
    pub runs: Vec<Rect>,
}

/// Every box, parents before children.
pub(super) struct Layout {
    pub boxes: Vec<Placed>,
    /// The whole picture.
    pub canvas: Rect,
}

impl<'a> Page<'a> {
    /// Parses the HTML. `rem` is the size of 1rem in CSS pixels.
    pub(super) fn new(
        html: &str,
        images: HashMap<Arc<str>, ImageSource>,
        fonts: &'a Fonts,
        (width, height): (u32, u32),
        rem: f32,
        scale: f32,
    ) -> Result<Self, String> {
        let parsed = parse_html(html, FromHtmlOptions::default()).map_err(|fault| fault.to_string())?;
        let viewport = Viewport::new((width, height)).with_font_size(rem).with_device_pixel_ratio(scale);
        Ok(Self { node: parsed.node, css: parsed.css, images, fonts, viewport })
    }

    /// Parses the CSS strictly. A card is drawn with what can be understood; this is for authors.
    pub(super) fn check_css(&self) -> Result<(), String> {
        StyleSheet::parse_list(&self.css).map(|_| ()).map_err(|fault| fault.to_string())
    }

    fn options(&self, more_css: &str) -> RenderOptions<'a> {
        let sources = self.css.iter().map(String::as_str).chain([more_css]);
        RenderOptions::builder()
            .viewport(self.viewport)
            .fonts(self.fonts)
            .node(self.node.clone())
            .images(self.images.clone())
            .stylesheet(Arc::new(StyleSheet::parse_list_loosy(sources)))
            .build()
    }

    /// Paints with `more_css` added to the template's own.
    pub(super) fn paint(&self, more_css: &str) -> Result<Bitmap, RenderError> {
        takumi::render(self.options(more_css)).map_err(|fault| RenderError::Engine(fault.to_string()))
    }

    /// Lays out with `more_css` added to the template's own.
    ///
    /// The engine's own `measure` knows sizes but not which element they belong to. Here its result is
    /// walked along with the tree that it was made from.
    pub(super) fn lay_out(&self, more_css: &str) -> Result<Layout, RenderError> {
        let engine = |fault: takumi::prelude::Error| RenderError::Engine(fault.to_string());
        let context = self.options(more_css).take_render_context();
        let mut root = RenderNode::from_node(&context, self.node.clone());
        let results = LayoutResults::compute_document(&root, self.viewport.into());
        let measured = MeasuredNode::of(&mut root, &results, self.viewport.size.into()).map_err(engine)?;
        let mut layout = Layout { boxes: Vec::new(), canvas: canvas_of(self.viewport) };
        let mut open = vec![(NodeId::ROOT, Vec::new(), None, measured)];
        while let Some((id, path, parent, mut measured)) = open.pop() {
            let computed = results.layout(id).map_err(engine)?;
            let [_, _, _, _, left, top] = measured.transform;
            let outer = Rect { left, top, right: left + measured.width, bottom: top + measured.height };
            let offset = computed.content_box_offset();
            let (left, top) = (left + offset.x, top + offset.y);
            layout.boxes.push(Placed {
                id: root.node_at_path(&path).and_then(|it| it.node.as_ref()?.id()).map(str::to_owned),
                parent,
                outer,
                content: Rect {
                    left,
                    top,
                    right: left + computed.content_box_width(),
                    bottom: top + computed.content_box_height(),
                },
                runs: measured
                    .runs
                    .iter()
                    .map(|run| Rect {
                        left: left + run.x,
                        top: top + run.y,
                        right: left + run.x + run.width,
                        bottom: top + run.y + run.height,
                    })
                    .collect(),
            });
            let index = layout.boxes.len() - 1;
            let children = results.box_children(id).map_err(engine)?;
            // Measuring lists the boxes inside lines first; they are no boxes of the tree.
            let inline = measured.children.len().saturating_sub(children.len());
            for (child, measured) in children.iter().zip(measured.children.drain(..).skip(inline)) {
                let mut path = path.clone();
                path.push(child.render_index);
                path.extend(child.inline_path.iter().flatten());
                open.push((child.node_id, path, Some(index), measured));
            }
        }
        Ok(layout)
    }
}

fn canvas_of(viewport: Viewport) -> Rect {
    let side = |length: Option<u32>| length.unwrap_or_default() as f32;
    Rect { left: 0.0, top: 0.0, right: side(viewport.size.width), bottom: side(viewport.size.height) }
}

impl Rect {
    /// Layout works in 64ths of a pixel; half a pixel over an edge is not seen.
    const SLACK: f32 = 0.5;

    /// Whether `other` lies inside.
    pub(super) fn holds(&self, other: &Self) -> bool {
        self.holds_across(other) && self.excess_height(other) == 0.0
    }

    /// Whether `other` lies between the left and the right edge.
    pub(super) fn holds_across(&self, other: &Self) -> bool {
        other.left >= self.left - Self::SLACK && other.right <= self.right + Self::SLACK
    }

    /// How much of `other` sticks out above and below.
    pub(super) fn excess_height(&self, other: &Self) -> f32 {
        let sum = (self.top - other.top).max(0.0) + (other.bottom - self.bottom).max(0.0);
        if sum <= Self::SLACK { 0.0 } else { sum }
    }

    fn union(self, other: Self) -> Self {
        Self {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
        }
    }
}

impl Layout {
    /// Index of the element with this `id`.
    pub(super) fn find(&self, id: &str) -> Option<usize> {
        self.boxes.iter().position(|it| it.id.as_deref() == Some(id))
    }

    /// What the children of a box cover together.
    pub(super) fn filled(&self, parent: usize) -> Rect {
        self.boxes
            .iter()
            .filter(|it| it.parent == Some(parent))
            .map(|it| it.outer)
            .reduce(Rect::union)
            .unwrap_or_default()
    }

    /// The pieces of text anywhere inside a box.
    pub(super) fn runs_in(&self, index: usize) -> Vec<Rect> {
        let within = |mut at: usize| loop {
            match at == index {
                true => break true,
                false => match self.boxes.get(at).and_then(|it| it.parent) {
                    Some(parent) => at = parent,
                    None => break false,
                },
            }
        };
        let inside = self.boxes.iter().enumerate().filter(|(at, _)| within(*at));
        inside.flat_map(|(_, it)| it.runs.iter().copied()).collect()
    }
}
