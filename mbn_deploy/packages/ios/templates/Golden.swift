// Compares the phone's answers with those of the workstation that exported the model.

import Foundation

extension §name {
    /// The largest difference of a score, and the largest that is allowed.
    public struct Golden {
        public let largest: Float
        public let tolerance: Float
        public var passed: Bool { largest <= tolerance }
    }

    /// Runs the golden vectors. The file begins with number of pictures, bytes of a picture, classes, tolerance (big-endian).
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
            let answer = try scores(of: [UInt8](data[at..<at + size]))
            at += size
            guard answer.count == classes else { throw Failure.count(answer.count) }
            for score in answer {
                let expected = Float(bitPattern: try word())
                largest = max(largest, abs(score - expected))
            }
        }
        return Golden(largest: largest, tolerance: tolerance)
    }
}
