§title
// The model is §file, sha256 §sha256.
// mbn-deploy writes this file without a Swift compiler; it was not compiled.

import Foundation
import TensorFlowLite
import UIKit

/// §purpose Two threads must not use an instance at the same time.
public final class §name {
§result    public enum Failure: Error {
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
        guard lines.count == §names else { throw Failure.count(lines.count) }
        labels = lines
        var options = Interpreter.Options()
        options.threadCount = threads
        options.isXNNPackEnabled = true
        interpreter = try Interpreter(modelPath: model.path, options: options)
        try interpreter.allocateTensors()
    }

§method

    /// Returns the model's answers as numbers, one an output. `pixels` are rows of §colours: height * width * channels bytes.
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

    private static let resize = §{name}Resize(
        width: width, height: height, channels: channels, way: .§way, cropFraction: §fraction, filter: .§filter
    )

    /// Resizes a picture to the model's size (§resize), upright.
    static func pixels(of image: UIImage) throws -> [UInt8] {
        let across = Int((image.size.width * image.scale).rounded())
        let down = Int((image.size.height * image.scale).rounded())
        guard across > 0, down > 0 else { throw Failure.drawing }
        var rgba = [UInt8](repeating: 0, count: across * down * 4)
        let drawn = rgba.withUnsafeMutableBytes { bytes -> Bool in
            guard let context = CGContext(
                data: bytes.baseAddress, width: across, height: down, bitsPerComponent: 8, bytesPerRow: across * 4,
                space: CGColorSpaceCreateDeviceRGB(), bitmapInfo: CGImageAlphaInfo.premultipliedLast.rawValue
            ) else { return false }
            context.interpolationQuality = .none
            // UIKit, which turns pictures upright, counts rows from the top; the context counts from the bottom.
            context.translateBy(x: 0, y: CGFloat(down))
            context.scaleBy(x: 1, y: -1)
            UIGraphicsPushContext(context)
            image.draw(in: CGRect(x: 0, y: 0, width: across, height: down))
            UIGraphicsPopContext()
            return true
        }
        guard drawn else { throw Failure.drawing }
        let pixels = resize.pixels(of: rgba, width: across, height: down)
        return §pixels
    }

§input

§output
}
