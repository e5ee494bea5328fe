internal import HTTPTypes
internal import NIOCore

/// The description of the HTTP interface, OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0), served at
/// `/openapi.yaml`. Written by hand; a test holds the service to it.
struct OpenAPIDescription: Sendable {
    private let text: ByteBuffer

    /// - Parameter version: of the service.
    init(version: String) {
        text = ByteBuffer(
            string: Self.beginning(version: version) + Self.deadLetterPaths + Self.observationPaths + Self.components)
    }

    var answer: Answer { Answer(status: .ok, headers: [.contentType: "application/yaml"], body: text) }

    // MARK: Text

    /// What it is about, and the paths of events.
    private static func beginning(version: String) -> String {
        #"""
        openapi: 3.1.0
        info:
          title: ingestd
          version: "\#(version)"
          summary: Takes events, keeps them safe on disk, and delivers them to ClickHouse.
          description: |
            A 2xx answer to events means that they are on stable storage, whether ClickHouse can be reached or not.
            Every error under /v1, and of what is no route at all, is a problem (RFC 9457) with a stable name in `kind`. Routes
            of ClickHouse's HTTP interface answer errors in ClickHouse's own form.
            Requests that are no HTTP, or whose head is too large (64 KiB) or too slow, are answered with 400, 431 or 408 before
            any route is known.
          license:
            name: Apache-2.0
            identifier: Apache-2.0
        servers:
          - url: /
        tags:
          - name: events
            description: Bringing events.
          - name: dead letters
            description: Events that can never be inserted, and streams that stand still.
          - name: observation
            description: Health, metrics and status.
          - name: clickhouse
            description: What clients of ClickHouse's HTTP interface need to insert.
        paths:
          /v1/events:
            post:
              tags: [events]
              operationId: postEvents
              summary: Brings events for the service's main stream.
              description: &bringing |
                A JSON object, an array of objects, or an object a line (NDJSON); or CloudEvents 1.0 in binary, structured or
                batched mode. An event's id is its field `event_id` (EVENT_ID_FIELD), else the CloudEvent's id, else the SHA-256
                of its bytes. All events of a request are accepted, or none.
              security: &optional [{}, bearer: []]
              parameters: &ingestParameters
                - $ref: "#/components/parameters/ack"
                - $ref: "#/components/parameters/timeout"
                - $ref: "#/components/parameters/onError"
                - $ref: "#/components/parameters/idempotencyKey"
                - $ref: "#/components/parameters/contentEncoding"
                - $ref: "#/components/parameters/ceSpecVersion"
                - $ref: "#/components/parameters/ceID"
                - $ref: "#/components/parameters/ceSource"
                - $ref: "#/components/parameters/ceType"
                - $ref: "#/components/parameters/traceparent"
              requestBody: &eventsBody
                required: true
                content:
                  application/json:
                    schema: { $ref: "#/components/schemas/Events" }
                    examples:
                      event: { value: { event_id: "42", action: "login" } }
                      events: { value: [{ event_id: "42" }, { event_id: "43" }] }
                  application/x-ndjson:
                    schema: { type: string, description: An object a line. }
                    example: "{\"event_id\":\"42\"}\n{\"event_id\":\"43\"}\n"
                  application/cloudevents+json:
                    schema: { $ref: "#/components/schemas/CloudEvent" }
                  application/cloudevents-batch+json:
                    schema: { type: array, items: { $ref: "#/components/schemas/CloudEvent" } }
              responses:
                "200": { $ref: "#/components/responses/Inserted" }
                "202": { $ref: "#/components/responses/Accepted" }
                "400": { $ref: "#/components/responses/BadRequest" }
                "401": { $ref: "#/components/responses/Unauthorized" }
                "403": { $ref: "#/components/responses/Forbidden" }
                "405": { $ref: "#/components/responses/MethodNotAllowed" }
                "406": { $ref: "#/components/responses/Problem" }
                "408": { $ref: "#/components/responses/Problem" }
                "413": { $ref: "#/components/responses/Problem" }
                "415": { $ref: "#/components/responses/UnsupportedMediaType" }
                "422": { $ref: "#/components/responses/Problem" }
                "431": { $ref: "#/components/responses/Problem" }
                "503": { $ref: "#/components/responses/Unavailable" }
                "504": { $ref: "#/components/responses/NotInsertedYet" }
            options: &options
              tags: [observation]
              summary: What the path takes, and for browsers (CORS) what a page may send.
              security: []
              responses:
                "204":
                  description: The methods.
                  headers:
                    Allow: { required: true, schema: { type: string } }
                    Access-Control-Allow-Origin: { schema: { type: string } }
                    Access-Control-Allow-Methods: { schema: { type: string } }
                    Access-Control-Allow-Headers: { schema: { type: string } }
                    Access-Control-Max-Age: { schema: { type: string } }
                "404": { $ref: "#/components/responses/Problem" }
          /v1/events/{stream}:
            parameters:
              - name: stream
                in: path
                required: true
                description: A name of STREAMS; any other leads to the main stream.
                schema: { type: string, minLength: 1 }
                example: clicks
            post:
              tags: [events]
              operationId: postEventsOfStream
              summary: Brings events for a stream.
              description: *bringing
              security: *optional
              parameters: *ingestParameters
              requestBody: *eventsBody
              responses:
                "200": { $ref: "#/components/responses/Inserted" }
                "202": { $ref: "#/components/responses/Accepted" }
                "400": { $ref: "#/components/responses/BadRequest" }
                "401": { $ref: "#/components/responses/Unauthorized" }
                "403": { $ref: "#/components/responses/Forbidden" }
                "405": { $ref: "#/components/responses/MethodNotAllowed" }
                "406": { $ref: "#/components/responses/Problem" }
                "408": { $ref: "#/components/responses/Problem" }
                "413": { $ref: "#/components/responses/Problem" }
                "415": { $ref: "#/components/responses/UnsupportedMediaType" }
                "422": { $ref: "#/components/responses/Problem" }
                "431": { $ref: "#/components/responses/Problem" }
                "503": { $ref: "#/components/responses/Unavailable" }
                "504": { $ref: "#/components/responses/NotInsertedYet" }
                "404": { $ref: "#/components/responses/Problem" }
            options: *options

        """#
    }
}
