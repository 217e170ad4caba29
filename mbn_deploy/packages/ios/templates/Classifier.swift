§title
// The model is §file, sha256 §sha256.
// mbn-deploy writes this file without a Swift compiler; it was not compiled.

import Foundation
import TensorFlowLite
import UIKit

/// Classifies pictures. Two threads must not use an instance at the same time.
public final class §name {
    public struct Prediction {
        public let index: Int
        public let label: String
        public let score: Float
    }

    public enum Failure: Error {
        /// The folder of the models is missing in the app: add it as a folder reference.
        case missing(String)
        /// The number of pixels, scores or labels is not the model's.
        case count(Int)
        /// The picture is empty or could not be drawn.
        case drawing
    }

    public static let folder = §folder
    public static let file = §model
    public static let width = §width
    public static let height = §height
    public static let channels = §channels
    public static let classes = §classes

    public let labels: [String]
    private let interpreter: Interpreter

    /// Opens the model; the system maps it into memory.
    public init(bundle: Bundle = .main, threads: Int = 2) throws {
        let model = try Self.resource(Self.file, in: bundle)
        let text = try String(contentsOf: Self.resource(§labels, in: bundle), encoding: .utf8)
        var lines = text.components(separatedBy: "\n")
        if lines.last == "" { lines.removeLast() }
        guard lines.count == Self.classes else { throw Failure.count(lines.count) }
        labels = lines
        var options = Interpreter.Options()
        options.threadCount = threads
        options.isXNNPackEnabled = true
        interpreter = try Interpreter(modelPath: model.path, options: options)
        try interpreter.allocateTensors()
    }

    /// Returns the most probable classes of a picture, best first.
    public func classify(_ image: UIImage, count: Int = 5) throws -> [Prediction] {
        let scores = try self.scores(of: Self.pixels(of: image))
        let ranked = scores.indices.sorted { first, second in
            scores[first] == scores[second] ? first < second : scores[first] > scores[second]
        }
        return ranked.prefix(count).map { index in
            Prediction(index: index, label: labels[index], score: scores[index])
        }
    }

    /// Returns the score of each class. `pixels` are rows of §colours: height * width * channels bytes.
    public func scores(of pixels: [UInt8]) throws -> [Float] {
        guard pixels.count == Self.height * Self.width * Self.channels else { throw Failure.count(pixels.count) }
        try interpreter.copy(Self.input(pixels), toInputAt: 0)
        try interpreter.invoke()
        let scores = try Self.output(interpreter.output(at: 0).data)
        guard scores.count == Self.classes else { throw Failure.count(scores.count) }
        return scores
    }

    static func resource(_ name: String, in bundle: Bundle) throws -> URL {
        guard let url = bundle.url(forResource: name, withExtension: nil, subdirectory: folder) else {
            throw Failure.missing("\(folder)/\(name)")
        }
        return url
    }

    /// Draws a picture at the model's size (§resize), upright, with transparent parts on white.
    static func pixels(of image: UIImage) throws -> [UInt8] {
        guard image.size.width > 0, image.size.height > 0 else { throw Failure.drawing }
        var rgba = [UInt8](repeating: 0, count: width * height * 4)
        let drawn = rgba.withUnsafeMutableBytes { bytes -> Bool in
            guard let context = CGContext(
                data: bytes.baseAddress, width: width, height: height, bitsPerComponent: 8, bytesPerRow: width * 4,
                space: CGColorSpaceCreateDeviceRGB(), bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue
            ) else { return false }
            context.interpolationQuality = §quality
            // UIKit, which turns pictures upright, counts rows from the top; the context counts from the bottom.
            context.translateBy(x: 0, y: CGFloat(height))
            context.scaleBy(x: 1, y: -1)
            let area = place(of: image.size)
            context.setFillColor(red: 1, green: 1, blue: 1, alpha: 1)
            context.fill(area)
            UIGraphicsPushContext(context)
            image.draw(in: area)
            UIGraphicsPopContext()
            return true
        }
        guard drawn else { throw Failure.drawing }
        return colours(rgba)
    }

    /// Returns where the whole picture is drawn; parts outside the model's input are cut off.
    static func place(of size: CGSize) -> CGRect {
        let across = CGFloat(width) / size.width
        let down = CGFloat(height) / size.height
§place
        let drawn = CGSize(width: size.width * scale.width, height: size.height * scale.height)
        return CGRect(
            x: (CGFloat(width) - drawn.width) / 2, y: (CGFloat(height) - drawn.height) / 2,
            width: drawn.width, height: drawn.height
        )
    }

    private static func colours(_ rgba: [UInt8]) -> [UInt8] {
        var pixels = [UInt8]()
        pixels.reserveCapacity(width * height * channels)
        for at in stride(from: 0, to: rgba.count, by: 4) {
§pixel
        }
        return pixels
    }

§input

§output
}
