#if FUZZER
    import Glibc

    /// The program of `make fuzz`: `Fuzzer TARGET [options, folders and files of libFuzzer]`.
    @main
    enum Fuzzer {
        /// Where libFuzzer's callback, which has no context, finds it. Set once, before it starts.
        nonisolated(unsafe) private static var target = FuzzTarget.body

        static func main() {
            let names = FuzzTarget.allCases.map(\.rawValue).joined(separator: " ")
            guard CommandLine.arguments.count > 1, let target = FuzzTarget(rawValue: CommandLine.arguments[1]) else {
                print(names)
                return
            }
            Self.target = target
            // Without the target's name.
            var arguments: [UnsafeMutablePointer<CChar>?] = (CommandLine.arguments[..<1] + CommandLine.arguments[2...])
                .map { strdup($0) }
            var count = CInt(arguments.count)
            arguments.append(nil)
            arguments.withUnsafeMutableBufferPointer { buffer in
                var start = buffer.baseAddress!
                exit(
                    runDriver(&count, &start) { bytes, count in
                        do {
                            try Fuzzer.target.check(UnsafeRawBufferPointer(start: bytes, count: count))
                        } catch {
                            fatalError("\(error)")
                        }
                        return 0
                    })
            }
        }
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
