/// Finds what was probably meant by an unknown name.
enum NearestName {
    /// The candidate with the fewest typing errors between, if it resembles the name at all. Case, underscores,
    /// hyphens and dots make no difference.
    static func find(_ name: String, among candidates: [String]) -> String? {
        let wanted = normalized(name)
        let best = candidates.map { (candidate: $0, distance: distance(wanted, normalized($0))) }
            .min { $0.distance < $1.distance }
        guard let best, best.distance * 2 <= max(wanted.count, 2) else { return nil }
        return best.candidate
    }

    /// `; did you mean X?`, or nothing.
    static func hint(_ name: String, among candidates: [String]) -> String {
        find(name, among: candidates).map { "; did you mean \($0)?" } ?? ""
    }

    /// Typing errors between two names: letters missing, added, replaced, or two neighbors exchanged.
    static func distance(_ left: [UInt8], _ right: [UInt8]) -> Int {
        guard !left.isEmpty, !right.isEmpty else { return max(left.count, right.count) }
        var beforePrevious = [Int](repeating: 0, count: right.count + 1)
        var previous = Array(0...right.count)
        for i in 1...left.count {
            var row = [i]
            for j in 1...right.count {
                let isSame = left[i - 1] == right[j - 1]
                var cost = min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (isSame ? 0 : 1))
                if i > 1, j > 1, left[i - 1] == right[j - 2], left[i - 2] == right[j - 1] {
                    cost = min(cost, beforePrevious[j - 2] + 1)
                }
                row.append(cost)
            }
            (beforePrevious, previous) = (previous, row)
        }
        return previous[right.count]
    }

    static func normalized(_ name: String) -> [UInt8] {
        name.lowercased().utf8.filter { ![0x5f, 0x2d, 0x2e].contains($0) }
    }
}
