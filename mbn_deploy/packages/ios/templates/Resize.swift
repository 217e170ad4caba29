§title
// Resizes pictures as mbn-deploy did when it measured the accuracy. mbn-deploy writes this file without a Swift compiler;
// it was not compiled.

import Foundation

/// Resizes a picture to the model's pixels: with Pillow's antialiasing filters, or as the loader of the training. Sums are
/// integers, so that the pixels are equal bit for bit to those of mbn-deploy, but for antialiased pictures more than about
/// twice as high as wide: there Pillow 13 resizes columns before rows, which rounds differently.
struct §{name}Resize {
    /// How a picture gets the model's proportions: distorted, cropped, with borders; as which loader.
    enum Way { case squash, crop, letterbox, keras, kerasCrop, kerasPad, kerasNearest, torchvision }
    enum Filter { case nearest, bilinear, bicubic, lanczos }

    let width: Int
    let height: Int
    let channels: Int
    let way: Way
    let cropFraction: Double
    let filter: Filter

    /// What becomes of one axis: the stretch from `start` to `end` is resized to `size` pixels, from `offset` on.
    private struct Axis {
        let start: Double
        let end: Double
        let size: Int
        var offset = 0
    }

    /// For each resized pixel, the first pixel that it is computed from, and the weights of that and the following ones.
    private struct Taps {
        var first: [Int] = []
        var weights: [[Int]] = []
    }

    /// For each resized pixel, the two pixels that it lies between, and the weight of the second in 1 / `one`.
    private struct Neighbours {
        var lower: [Int] = []
        var upper: [Int] = []
        var weight: [Int] = []
    }

    private static let bits = 22 // of the fraction of a weight of Pillow's filters
    private static let shortBits = 11 // of a weight of a neighbour
    private static let one = 1 << shortBits

    private var isNearest: Bool { filter == .nearest || way == .kerasNearest }
    private var isAntialiased: Bool { way == .squash || way == .crop || way == .letterbox || way == .torchvision }
    /// The loaders of the training make transparent parts opaque; else they are laid on white.
    private var dropsTransparency: Bool { way != .squash && way != .crop && way != .letterbox }

    /// Returns pixels (height, width, channels), RGB or grey, of an upright picture of premultiplied RGBA.
    func pixels(of rgba: [UInt8], width pictureWidth: Int, height pictureHeight: Int) -> [UInt8] {
        let (across, down) = plan(pictureWidth, pictureHeight)
        let row = { (y: Int) in self.unpacked(rgba, from: y * pictureWidth, count: pictureWidth) }
        let small: [UInt8]
        if isAntialiased || isNearest {
            small = resampled(taps(pictureWidth, across), taps(pictureHeight, down), row)
        } else {
            small = bilinear(neighbours(across), neighbours(down), row)
        }
        return placed(small, across, down)
    }

    /// Returns what becomes of the axes of an upright picture: of its width, and of its height.
    private func plan(_ pictureWidth: Int, _ pictureHeight: Int) -> (Axis, Axis) {
        let across = Double(pictureWidth) / Double(width)
        let down = Double(pictureHeight) / Double(height)
        switch way {
        case .squash, .keras, .kerasNearest:
            return (
                Axis(start: 0, end: Double(pictureWidth), size: width),
                Axis(start: 0, end: Double(pictureHeight), size: height)
            )
        case .crop:
            let scale = min(across, down) * cropFraction
            let left = (Double(pictureWidth) - Double(width) * scale) / 2
            let top = (Double(pictureHeight) - Double(height) * scale) / 2
            return (
                Axis(start: left, end: Double(pictureWidth) - left, size: width),
                Axis(start: top, end: Double(pictureHeight) - top, size: height)
            )
        case .letterbox:
            let scale = min(Double(width) / Double(pictureWidth), Double(height) / Double(pictureHeight))
            return (fitted(pictureWidth, width, scale), fitted(pictureHeight, height, scale))
        case .kerasCrop:
            return (
                middle(pictureWidth, pictureHeight * width / height, width),
                middle(pictureHeight, pictureWidth * height / width, height)
            )
        case .kerasPad:
            let ratio = max(Float(pictureWidth) / Float(width), Float(pictureHeight) / Float(height))
            return (padded(pictureWidth, width, ratio), padded(pictureHeight, height, ratio))
        case .torchvision:
            let shorter = max(1, Int((Double(min(width, height)) / cropFraction).rounded(.toNearestOrEven)))
            let longer = shorter * max(pictureWidth, pictureHeight) / min(pictureWidth, pictureHeight)
            let isUpright = pictureWidth <= pictureHeight
            return (
                cut(pictureWidth, isUpright ? shorter : longer, width),
                cut(pictureHeight, isUpright ? longer : shorter, height)
            )
        }
    }

    private func fitted(_ length: Int, _ target: Int, _ scale: Double) -> Axis {
        let size = max(1, Int((Double(length) * scale).rounded(.toNearestOrEven)))
        return Axis(start: 0, end: Double(length), size: size, offset: (target - size) >> 1)
    }

    /// Takes the longest stretch of whole pixels with the model's proportions, as `smart_resize` does.
    private func middle(_ length: Int, _ longest: Int, _ size: Int) -> Axis {
        let kept = max(1, min(length, longest))
        let start = (length - kept) / 2
        return Axis(start: Double(start), end: Double(start + kept), size: size)
    }

    /// Fits the picture in as `tf.image.resize_with_pad`, whose floats are rounded down.
    private func padded(_ length: Int, _ target: Int, _ ratio: Float) -> Axis {
        let size = Float(length) / ratio
        let offset = max(0, Int((Float(target) - size) / 2))
        return Axis(start: 0, end: Double(length), size: max(1, Int(size)), offset: offset)
    }

    /// Cuts the middle out of an axis that is resized from `length` to `resized`, as `CenterCrop` does.
    private func cut(_ length: Int, _ resized: Int, _ target: Int) -> Axis {
        if resized < target {
            return Axis(start: 0, end: Double(length), size: resized, offset: (target - resized) / 2)
        }
        let first = (Double(resized - target) / 2).rounded(.toNearestOrEven)
        let scale = Double(length) / Double(resized)
        return Axis(start: first * scale, end: (first + Double(target)) * scale, size: target)
    }

    private func resampled(_ across: Taps, _ down: Taps, _ row: (Int) -> [Int]) -> [UInt8] {
        let half = 1 << (Self.bits - 1)
        let line = across.first.count * channels
        let first = down.first.min() ?? 0
        let last = zip(down.first, down.weights).map { $0 + $1.count }.max() ?? 0
        var narrow = [Int](repeating: 0, count: (last - first) * line)
        for y in first..<last {
            let values = row(y)
            for x in across.first.indices {
                for channel in 0..<channels {
                    var sum = half
                    var from = across.first[x] * channels + channel
                    for weight in across.weights[x] {
                        sum += weight * values[from]
                        from += channels
                    }
                    narrow[(y - first) * line + x * channels + channel] = clipped(sum)
                }
            }
        }
        var small = [UInt8](repeating: 0, count: down.first.count * line)
        for y in down.first.indices {
            let start = (down.first[y] - first) * line
            for x in 0..<line {
                var sum = half
                for (index, weight) in down.weights[y].enumerated() { sum += weight * narrow[start + index * line + x] }
                small[y * line + x] = UInt8(clipped(sum))
            }
        }
        return small
    }

    private func clipped(_ sum: Int) -> Int { max(0, min(255, sum >> Self.bits)) }

    /// Samples without antialias, as `tf.image.resize`: every pixel lies between four of the picture.
    private func bilinear(_ across: Neighbours, _ down: Neighbours, _ row: (Int) -> [Int]) -> [UInt8] {
        let line = across.lower.count * channels
        var small = [UInt8](repeating: 0, count: down.lower.count * line)
        for y in down.lower.indices {
            let above = narrowed(row(down.lower[y]), across)
            let below = narrowed(row(down.upper[y]), across)
            for x in 0..<line {
                let mixed = above[x] * (Self.one - down.weight[y]) + below[x] * down.weight[y]
                small[y * line + x] = UInt8((mixed + Self.one * Self.one / 2) >> (2 * Self.shortBits))
            }
        }
        return small
    }

    private func narrowed(_ values: [Int], _ across: Neighbours) -> [Int] {
        var sums = [Int](repeating: 0, count: across.lower.count * channels)
        for x in across.lower.indices {
            for channel in 0..<channels {
                let left = values[across.lower[x] * channels + channel]
                let right = values[across.upper[x] * channels + channel]
                sums[x * channels + channel] = left * (Self.one - across.weight[x]) + right * across.weight[x]
            }
        }
        return sums
    }

    private func neighbours(_ axis: Axis) -> Neighbours {
        let start = Int(axis.start)
        let length = Int(axis.end) - start
        let step = 2 * axis.size // positions are in 1 / step of a pixel
        var found = Neighbours()
        for index in 0..<axis.size {
            let position = (2 * index + 1) * length - axis.size
            let below = position < 0 ? -1 : position / step
            found.lower.append(start + max(0, min(length - 1, below)))
            found.upper.append(start + max(0, min(length - 1, below + 1)))
            found.weight.append(((position - below * step) * Self.one + axis.size) / step)
        }
        return found
    }

    private func taps(_ length: Int, _ axis: Axis) -> Taps {
        let start = Float(axis.start) // Pillow's boxes are float32
        let scale = Double(Float(axis.end) - start) / Double(axis.size)
        var found = Taps()
        if isNearest {
            var at = Double(start) + scale * 0.5
            for _ in 0..<axis.size {
                found.first.append(min(length - 1, Int(at)))
                found.weights.append([1 << Self.bits])
                at += scale
            }
            return found
        }
        let stretch = max(scale, 1)
        let reach = self.reach * stretch
        for index in 0..<axis.size {
            let center = Double(start) + (Double(index) + 0.5) * scale
            let first = max(0, Int(center - reach + 0.5))
            let count = min(length, Int(center + reach + 0.5)) - first
            let shares = (0..<count).map { weight((Double($0 + first) - center + 0.5) * (1 / stretch)) }
            let total = shares.reduce(0, +)
            found.first.append(first)
            found.weights.append(shares.map { fixed(total == 0 ? $0 : $0 / total) })
        }
        return found
    }

    private func fixed(_ share: Double) -> Int { Int(share * Double(1 << Self.bits) + (share < 0 ? -0.5 : 0.5)) }

    /// The radius of the filter, in pixels of the smaller picture.
    private var reach: Double {
        switch filter {
        case .nearest: return 0
        case .bilinear: return 1
        case .bicubic: return 2
        case .lanczos: return 3
        }
    }

    private func weight(_ offset: Double) -> Double {
        let x = abs(offset)
        if x >= reach { return 0 }
        switch filter {
        case .nearest, .bilinear: return 1 - x
        case .bicubic: return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : (((x - 5) * x + 8) * x - 4) * -0.5
        case .lanczos: return sinc(x) * sinc(x / 3)
        }
    }

    private func sinc(_ x: Double) -> Double { x == 0 ? 1 : sin(x * .pi) / (x * .pi) }

    /// Returns `count` pixels from pixel `from` on: RGB, or grey (ITU-R 601, in Pillow's integers).
    private func unpacked(_ rgba: [UInt8], from: Int, count: Int) -> [Int] {
        var values = [Int](repeating: 0, count: count * channels)
        for x in 0..<count {
            let at = 4 * (from + x)
            let alpha = Int(rgba[at + 3])
            let red = opaque(Int(rgba[at]), alpha)
            let green = opaque(Int(rgba[at + 1]), alpha)
            let blue = opaque(Int(rgba[at + 2]), alpha)
            if channels == 1 {
                values[x] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
            } else {
                values[3 * x] = red
                values[3 * x + 1] = green
                values[3 * x + 2] = blue
            }
        }
        return values
    }

    private func opaque(_ value: Int, _ alpha: Int) -> Int {
        if alpha == 255 { return value }
        if !dropsTransparency { return min(255, value + 255 - alpha) }
        return alpha == 0 ? 0 : min(255, (value * 255 + alpha / 2) / alpha)
    }

    private func placed(_ small: [UInt8], _ across: Axis, _ down: Axis) -> [UInt8] {
        if across.size == width && down.size == height { return small }
        var pixels = [UInt8](repeating: 0, count: width * height * channels)
        let line = across.size * channels
        for y in 0..<down.size {
            let to = ((down.offset + y) * width + across.offset) * channels
            pixels.replaceSubrange(to..<to + line, with: small[y * line..<(y + 1) * line])
        }
        return pixels
    }
}
