internal import HTTPTypes

/// The secret that requests must carry in `Authorization: Bearer ...` (RFC 6750).
struct BearerToken: Sendable {
    private let secret: [UInt8]

    init(_ secret: String) { self.secret = Array(secret.utf8) }

    /// - Parameter authorization: the header's value, if the request has one.
    /// - Throws: `Problem`: 401 without a bearer token, 403 with a wrong one.
    func check(_ authorization: String?) throws(Problem) {
        let scheme = "bearer "
        guard let authorization, authorization.utf8.count > scheme.utf8.count,
            authorization.prefix(scheme.count).lowercased() == scheme
        else {
            var problem = Problem(.unauthorized, "unauthorized", "send Authorization: Bearer with the service's token")
            problem.header = .init(name: .wwwAuthenticate, value: "Bearer")
            throw problem
        }
        guard matches(authorization.utf8.dropFirst(scheme.utf8.count)) else {
            throw Problem(.forbidden, "forbidden", "the bearer token is not this service's")
        }
    }

    /// Takes the same time wherever the first difference is.
    private func matches(_ candidate: Substring.UTF8View) -> Bool {
        var difference: UInt8 = candidate.count == secret.count ? 0 : 1
        var index = 0
        for byte in candidate {
            difference |= byte ^ (index < secret.count ? secret[index] : 0)
            index += 1
        }
        return difference == 0
    }
}
