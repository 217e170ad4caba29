// The answers that the model gave where it was exported, compared with those of this phone.

import Foundation

extension §name {
    /// How far scores are off at most, and how far they may be.
    public struct Golden {
        public let largest: Float
        public let tolerance: Float
        public var passed: Bool { largest <= tolerance }
    }

    /// Runs the pictures that lie beside the model. Numbers are big-endian: count, bytes of pixels, classes, tolerance.
    public func golden(bundle: Bundle = .main) throws -> Golden {
        let data = try Data(contentsOf: Self.resource(§golden, in: bundle))
        var at = 0
        func word() throws -> UInt32 {
            guard at + 4 <= data.count else { throw Failure.count(data.count) }
            defer { at += 4 }
            return data[at..<at + 4].reduce(0) { value, byte in value << 8 | UInt32(byte) }
        }
        let count = Int(try word())
        let size = Int(try word())
        let classes = Int(try word())
        let tolerance = Float(bitPattern: try word())
        var largest: Float = 0
        for _ in 0..<count {
            guard at + size <= data.count else { throw Failure.count(data.count) }
            let found = try scores(of: [UInt8](data[at..<at + size]))
            at += size
            guard found.count == classes else { throw Failure.count(found.count) }
            for score in found {
                let expected = Float(bitPattern: try word())
                largest = max(largest, abs(score - expected))
            }
        }
        return Golden(largest: largest, tolerance: tolerance)
    }
}
