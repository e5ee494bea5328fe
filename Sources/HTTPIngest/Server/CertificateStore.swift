internal import Glibc
internal import IngestCore
internal import NIOCore
internal import NIOSSL
internal import ServiceLog
internal import Synchronization

/// The certificate that new connections get; read again when one of its files has changed.
final class CertificateStore: Sendable {
    private struct Files {
        var certificate: WatchedFile
        var key: WatchedFile
        var clientCA: WatchedFile?

        mutating func haveChanged() -> Bool {
            // All are asked: each remembers what it saw.
            let changes = [certificate.hasChanged(), key.hasChanged(), clientCA?.hasChanged() ?? false]
            return changes.contains(true)
        }
    }

    private struct State {
        var context: NIOSSLContext
        /// Seconds since 1970 UTC.
        var validUntil: time_t
        var failure: UnusableFile?
    }

    private let state: Mutex<State>
    /// Held while files are read, which connections do not wait for.
    private let files: Mutex<Files>
    private let log: EventLog

    /// Bytes of one file.
    private static let maxFileBytes = 1 << 20

    /// - Throws: `UnusableFile`.
    init(_ configuration: HTTPIngestConfiguration.TLS, log: EventLog) throws(UnusableFile) {
        var files = Files(
            certificate: WatchedFile(configuration.certificatePath), key: WatchedFile(configuration.keyPath),
            clientCA: configuration.clientCAPath.map { WatchedFile($0) })
        _ = files.haveChanged()
        self.log = log
        let state = try Self.load(files)
        self.state = Mutex(state)
        self.files = Mutex(files)
        warnOfExpiry(state)
    }

    /// For a connection that begins.
    var context: NIOSSLContext { state.withLock { $0.context } }

    /// Reads the files again if they have changed. A pair that does not work leaves the certificate as it is.
    func reload() {
        files.withLock { files in
            guard files.haveChanged() else { return }
            do throws(UnusableFile) {
                let new = try Self.load(files)
                state.withLock { $0 = new }
                log.write(
                    .httpCertificateReloaded, "certificate read again", ["path": "\(files.certificate.path)"])
                warnOfExpiry(new)
            } catch {
                state.withLock { $0.failure = error }
                log.write(
                    .httpCertificateUnusable, "the certificate stays as it was", ["reason": "\(error)"])
            }
        }
    }

    private func warnOfExpiry(_ state: State) {
        guard state.validUntil <= time(nil) else { return }
        log.write(
            .httpCertificateExpired, "the certificate has expired", ["since": "\(HTTPDate.format(state.validUntil))"])
    }

    /// For health; `nil` while all is well.
    var trouble: ComponentHealth? {
        let (failure, validUntil) = state.withLock { ($0.failure, $0.validUntil) }
        let detail: String
        if let failure {
            detail = "the certificate stays as it was: \(failure)"
        } else if validUntil <= time(nil) {
            detail = "the certificate has expired: \(HTTPDate.format(validUntil))"
        } else {
            return nil
        }
        return ComponentHealth(component: "http_tls", isHealthy: false, isRequired: false, detail: detail)
    }

    // MARK: Files

    private static func load(_ files: Files) throws(UnusableFile) -> State {
        let chain = try certificates(files.certificate)
        let key = try privateKey(files.key)
        var configuration: TLSConfiguration
        if let clientCA = files.clientCA {
            configuration = .makeServerConfigurationWithMTLS(
                certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(key),
                trustRoots: .certificates(try certificates(clientCA)))
            configuration.sendCANameList = true
        } else {
            configuration = .makeServerConfiguration(
                certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(key))
        }
        configuration.minimumTLSVersion = .tlsv12
        configuration.applicationProtocols = ["http/1.1"]
        // A client that does not answer the farewell is not waited for long.
        configuration.shutdownTimeout = .seconds(1)
        do {
            return State(context: try NIOSSLContext(configuration: configuration), validUntil: chain[0].notValidAfter)
        } catch {
            throw UnusableFile(
                files.key.path,
                "can't be used: it must be the key of the first certificate in \(files.certificate.path) (\(error))")
        }
    }

    private static func certificates(_ file: WatchedFile) throws(UnusableFile) -> [NIOSSLCertificate] {
        let bytes = try file.read(limit: maxFileBytes)
        let certificates: [NIOSSLCertificate]
        do { certificates = try NIOSSLCertificate.fromPEMBytes(bytes) } catch {
            throw UnusableFile(file.path, "holds no certificates in PEM format (\(error))")
        }
        guard !certificates.isEmpty else { throw UnusableFile(file.path, "holds no certificates in PEM format") }
        return certificates
    }

    private static func privateKey(_ file: WatchedFile) throws(UnusableFile) -> NIOSSLPrivateKey {
        let bytes = try file.read(limit: maxFileBytes)
        // `BEGIN ENCRYPTED PRIVATE KEY`, or `Proc-Type: 4,ENCRYPTED` in the older format; base64 has no blanks.
        let markers = ["BEGIN ENCRYPTED", ",ENCRYPTED"].map { Array($0.utf8) }
        if markers.contains(where: { bytes.firstRange(of: $0) != nil }) {
            throw UnusableFile(
                file.path, "is encrypted: store the key without a passphrase (openssl pkey -in KEY -out PLAIN)")
        }
        do { return try NIOSSLPrivateKey(bytes: bytes, format: .pem) } catch {
            throw UnusableFile(file.path, "holds no private key in PEM format (\(error))")
        }
    }
}
