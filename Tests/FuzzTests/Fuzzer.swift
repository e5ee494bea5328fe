#if FUZZER
    import Glibc

    /// The program of `make fuzz`: `Fuzzer TARGET [options, folders and files of libFuzzer]`.
    @main
    enum Fuzzer {
        /// Where the callback, which has no context, finds it. Set once, before libFuzzer starts.
        nonisolated(unsafe) fileprivate static var target = FuzzTarget.body

        private static let variable = "INGESTD_FUZZ_TARGET"

        static func main() {
            var arguments = CommandLine.arguments
            // libFuzzer starts the program again with the arguments that it got, when it merges.
            if let name = getenv(variable).map({ String(cString: $0) }) { arguments.insert(name, at: 1) }
            guard arguments.count > 1, let target = FuzzTarget(rawValue: arguments[1]) else {
                return print(FuzzTarget.allCases.map(\.rawValue).joined(separator: " "))
            }
            Self.target = target
            setenv(variable, target.rawValue, 1)
            // Without the target's name.
            var copies = (arguments[..<1] + arguments[2...]).map { strdup($0) }
            var count = CInt(copies.count)
            copies.append(nil)
            copies.withUnsafeMutableBufferPointer { buffer in
                var start = buffer.baseAddress!
                exit(runDriver(&count, &start, testOneInput))
            }
        }
    }

    /// libFuzzer's own `main` is linked too and wants this name.
    @_cdecl("LLVMFuzzerTestOneInput")
    public func testOneInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
        do {
            try Fuzzer.target.check(UnsafeRawBufferPointer(start: bytes, count: count))
        } catch {
            fatalError("\(error)")
        }
        return 0
    }

    /// libFuzzer's entry point for programs with a `main` of their own
    /// [https://llvm.org/docs/LibFuzzer.html#using-libfuzzer-as-a-library].
    @_silgen_name("LLVMFuzzerRunDriver")
    private func runDriver(
        _ count: UnsafeMutablePointer<CInt>,
        _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
        _ callback: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
    ) -> CInt
#endif
