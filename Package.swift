// swift-tools-version: 6.2

import PackageDescription

// One set of rules for every Swift target: Swift 6 language mode, no warning survives, imports are
// internal unless a public declaration needs them.
let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let metrics: Target.Dependency = .product(name: "Metrics", package: "swift-metrics")

// Which module may import which is decided here and checked by tools/check-imports (part of `make test`).
// docs/architecture.md explains the rooms and the direction of the arrows.
let package = Package(
    name: "ingestd",
    platforms: [.macOS(.v15)],
    products: [
        .executable(name: "ingestd", targets: ["ingestd"]),
        .executable(name: "kafka-dev", targets: ["kafka-dev"]),
        // Preloaded by DiskTests; stands beside the test bundle. No target may depend on it: linked into the bundle it
        // would stand in for the system's `pwrite` in every test.
        .library(name: "FaultShim", type: .dynamic, targets: ["FaultShim"]),
    ],
    dependencies: [
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1", traits: []),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-extras", from: "1.34.1"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(
            url: "https://github.com/apple/swift-configuration", from: "1.4.0",
            traits: ["YAML", "CommandLineArguments"]),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    ],
    targets: [
        // C libraries: module maps and shims, nothing else.
        .systemLibrary(name: "CLMDB", pkgConfig: "lmdb", providers: [.apt(["liblmdb-dev"])]),
        .systemLibrary(name: "CKafka", pkgConfig: "rdkafka", providers: [.apt(["librdkafka-dev"])]),
        .systemLibrary(name: "CCurl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-openssl-dev"])]),
        .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
        .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
        .systemLibrary(name: "CEpoll"),
        .systemLibrary(name: "CXXHash", providers: [.apt(["libxxhash-dev"])]),
        .target(
            name: "CSimdJSON",
            cxxSettings: [.unsafeFlags(["-std=c++17", "-O3"])],
            linkerSettings: [.linkedLibrary("simdjson"), .linkedLibrary("stdc++")]),

        // The words of the project: no C library, no I/O.
        .target(
            name: "IngestCore", dependencies: [.product(name: "Crypto", package: "swift-crypto")],
            swiftSettings: strict),

        // The log as all rooms write it: each line names its event.
        .target(name: "ServiceLog", dependencies: [logging], swiftSettings: strict),

        // The rooms around it.
        .target(name: "EventJSON", dependencies: ["CSimdJSON", "IngestCore"], swiftSettings: strict),
        .target(name: "Decompression", dependencies: ["CZlib", "CZstd"], swiftSettings: strict),
        .target(
            name: "Journal", dependencies: ["CLMDB", "CXXHash", "IngestCore", "ServiceLog", logging],
            swiftSettings: strict),
        .target(
            name: "Kafka", dependencies: ["CKafka", "EventJSON", "IngestCore", "ServiceLog", logging, metrics],
            swiftSettings: strict),
        .target(
            name: "ClickHouse", dependencies: ["CCurl", "CZstd", "IngestCore", "ServiceLog", logging],
            swiftSettings: strict),
        .target(
            name: "HTTPIngest",
            dependencies: [
                "Decompression", "EventJSON", "IngestCore", "ServiceLog", logging, metrics,
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "HummingbirdCore", package: "hummingbird"),
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOHTTPTypes", package: "swift-nio-extras"),
                .product(name: "NIOHTTPTypesHTTP1", package: "swift-nio-extras"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            // Part of the program: no folder of resources has to be installed beside it.
            resources: [.embedInCode("StatusPage/page")], swiftSettings: strict),
        .target(
            name: "Pipeline", dependencies: ["IngestCore", "Journal", "ServiceLog", logging, metrics],
            swiftSettings: strict),
        .target(
            name: "Observability",
            dependencies: ["ServiceLog", logging, .product(name: "CoreMetrics", package: "swift-metrics")],
            swiftSettings: strict),

        // Load generators and measurements behind `ingestd bench`.
        .target(
            name: "Benchmarks",
            dependencies: [
                "CCurl", "CEpoll", "CKafka", "ClickHouse", "IngestCore", "Journal", "Kafka", "Pipeline", logging,
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ],
            swiftSettings: strict),

        // The executable: commands, configuration, wiring.
        .executableTarget(
            name: "ingestd",
            dependencies: [
                "Benchmarks", "ClickHouse", "HTTPIngest", "IngestCore", "Journal", "Kafka", "Observability", "Pipeline",
                "ServiceLog", logging, metrics,
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Configuration", package: "swift-configuration"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
            ],
            swiftSettings: strict),

        // Development servers.
        .executableTarget(
            name: "kafka-dev", dependencies: ["CKafka"], path: "tools/kafka-dev", swiftSettings: strict),

        // Tests: one folder a module, then whole-process tests.
        .target(
            name: "TestSupport", dependencies: ["CKafka", "CZlib", "CZstd", "IngestCore"], path: "Tests/TestSupport",
            swiftSettings: strict),
        .testTarget(name: "IngestCoreTests", dependencies: ["IngestCore", "TestSupport"], swiftSettings: strict),
        .testTarget(name: "EventJSONTests", dependencies: ["EventJSON", "IngestCore"], swiftSettings: strict),
        .testTarget(name: "DecompressionTests", dependencies: ["Decompression", "TestSupport"], swiftSettings: strict),
        .testTarget(
            name: "JournalTests", dependencies: ["CLMDB", "IngestCore", "Journal", "TestSupport", logging],
            swiftSettings: strict),
        .testTarget(
            name: "KafkaTests",
            dependencies: [
                "Kafka", "CKafka", "IngestCore", "TestSupport", logging, metrics,
                .product(name: "MetricsTestKit", package: "swift-metrics"),
            ],
            swiftSettings: strict),
        .testTarget(name: "ClickHouseTests", dependencies: ["ClickHouse", "TestSupport"], swiftSettings: strict),
        .testTarget(
            name: "HTTPIngestTests",
            dependencies: [
                "HTTPIngest", "IngestCore", "TestSupport", logging,
                .product(name: "MetricsTestKit", package: "swift-metrics"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ],
            swiftSettings: strict),
        .testTarget(
            name: "PipelineTests", dependencies: ["IngestCore", "Journal", "Pipeline", "TestSupport", logging],
            swiftSettings: strict),
        .testTarget(name: "BenchmarksTests", dependencies: ["Benchmarks"], swiftSettings: strict),
        .testTarget(
            name: "ServiceLogTests", dependencies: ["ServiceLog", "TestSupport", logging], swiftSettings: strict),
        .testTarget(name: "ObservabilityTests", dependencies: ["Observability", "ServiceLog"], swiftSettings: strict),
        .testTarget(name: "ConfigurationTests", dependencies: ["ingestd", "TestSupport"], swiftSettings: strict),
        .testTarget(
            name: "IntegrationTests", dependencies: ["ingestd", "IngestCore", "TestSupport"], swiftSettings: strict),
        .testTarget(
            name: "CommandTests", dependencies: ["ingestd", "IngestCore", "Journal", "TestSupport", logging],
            swiftSettings: strict),
        // Also loaded into programs that know no sanitizer.
        .target(
            name: "FaultShim", path: "Tests/FaultShim", cSettings: [.unsafeFlags(["-fno-sanitize=all"])]),
        .executableTarget(
            name: "DiskWriter", dependencies: ["IngestCore", "Journal", "TestSupport", logging],
            path: "Tests/DiskWriter", swiftSettings: strict),
        .testTarget(
            name: "DiskTests",
            dependencies: ["DiskWriter", "ingestd", "IngestCore", "Journal", "TestSupport", logging],
            swiftSettings: strict),
        .testTarget(
            name: "CrashTests", dependencies: ["ingestd", "IngestCore", "TestSupport"], swiftSettings: strict),
    ]
)

// `make fuzz` builds the checks of FuzzTests into a program of their own, in which libFuzzer and AddressSanitizer watch
// the rooms that read what strangers send. Never part of another build.
let checks: [Target.Dependency] = [
    "Decompression", "EventJSON", "HTTPIngest", "IngestCore", "Journal",
    .product(name: "HTTPTypes", package: "swift-http-types"),
]
if Context.environment["INGESTD_FUZZ"] == nil {
    package.targets.append(
        .testTarget(name: "FuzzTests", dependencies: checks, exclude: ["Corpus"], swiftSettings: strict))
} else {
    let watch = ["-sanitize=fuzzer,address"]
    let rooms: Set = ["CSimdJSON", "Decompression", "EventJSON", "HTTPIngest", "IngestCore", "Journal"]
    for target in package.targets where rooms.contains(target.name) {
        if target.cxxSettings == nil {
            target.swiftSettings = strict + [.unsafeFlags(watch)]
        } else {
            target.cxxSettings?.append(.unsafeFlags(["-fsanitize=fuzzer-no-link,address"]))
        }
    }
    package.targets.append(
        .executableTarget(
            name: "Fuzzer", dependencies: checks, path: "Tests/FuzzTests", exclude: ["Corpus", "CorpusTests.swift"],
            swiftSettings: strict + [.define("FUZZER"), .unsafeFlags(watch)],
            // gold, the default, has an internal error here.
            linkerSettings: [.unsafeFlags(watch + ["-use-ld=lld"])]))
}

// `make bench-micro` builds the micro-benchmarks, with a package that nothing else needs. Never part of another build.
if Context.environment["INGESTD_MICRO"] != nil {
    package.dependencies.append(
        // Without its traits: they replace malloc and parts of Swift's runtime for counting, which would change what is
        // measured. AllocationCounter counts.
        .package(url: "https://github.com/ordo-one/benchmark", from: "1.38.1", traits: []))
    package.targets += [
        .target(name: "AllocationCounter", path: "benchmarks/micro/AllocationCounter"),
        // The plugin wants a folder of this name above the target's.
        .executableTarget(
            name: "Micro",
            dependencies: [
                "AllocationCounter", "ClickHouse", "EventJSON", "IngestCore", "Journal", logging,
                .product(name: "Benchmark", package: "benchmark"),
            ],
            path: "benchmarks/micro/Benchmarks/Micro", swiftSettings: strict,
            plugins: [.plugin(name: "BenchmarkPlugin", package: "benchmark")]),
    ]
}
