extension OpenAPIDescription {
    /// Paths of observation, and of ClickHouse's interface.
    static let observationPaths = #"""
          /v1/status:
            get:
              tags: [observation]
              operationId: getStatus
              summary: The state of journal, streams, Kafka and ClickHouse.
              security: *optional
              responses:
                "200":
                  description: The state.
                  content:
                    application/json:
                      schema: { $ref: "#/components/schemas/Status" }
                "401": { $ref: "#/components/responses/Unauthorized" }
                "403": { $ref: "#/components/responses/Forbidden" }
                "405": { $ref: "#/components/responses/MethodNotAllowed" }
                "406": { $ref: "#/components/responses/Problem" }
                "408": { $ref: "#/components/responses/Problem" }
                "431": { $ref: "#/components/responses/Problem" }
            head:
              tags: [observation]
              operationId: headStatus
              summary: As GET, without the body.
              security: *optional
              responses: *headResponses
            options: *options
          /metrics:
            get:
              tags: [observation]
              operationId: getMetrics
              summary: Metrics for Prometheus.
              security: *optional
              responses:
                "200":
                  description: Prometheus' text format 0.0.4.
                  content:
                    text/plain:
                      schema: { type: string }
                "401": { $ref: "#/components/responses/Unauthorized" }
                "403": { $ref: "#/components/responses/Forbidden" }
                "405": { $ref: "#/components/responses/MethodNotAllowed" }
                "406": { $ref: "#/components/responses/Problem" }
                "408": { $ref: "#/components/responses/Problem" }
                "431": { $ref: "#/components/responses/Problem" }
            head:
              tags: [observation]
              operationId: headMetrics
              summary: As GET, without the body.
              security: *optional
              responses: *headResponses
            options: *options
          /livez:
            get:
              tags: [observation]
              operationId: getLiveness
              summary: Whether the process works at all; if not it should be restarted.
              security: []
              responses: &healthResponses
                "200":
                  description: Yes.
                  content:
                    application/json:
                      schema: { $ref: "#/components/schemas/Health" }
                "405": { $ref: "#/components/responses/MethodNotAllowed" }
                "408": { $ref: "#/components/responses/Problem" }
                "431": { $ref: "#/components/responses/Problem" }
                "503":
                  description: No.
                  content:
                    application/json:
                      schema: { $ref: "#/components/schemas/Health" }
            head:
              tags: [observation]
              operationId: headLiveness
              summary: As GET, without the body.
              security: []
              responses: *headResponses
            options: *options
          /readyz:
            get:
              tags: [observation]
              operationId: getReadiness
              summary: Whether events can be accepted durably.
              security: []
              responses: *healthResponses
            head:
              tags: [observation]
              operationId: headReadiness
              summary: As GET, without the body.
              security: []
              responses: *headResponses
            options: *options
          /openapi.yaml:
            get:
              tags: [observation]
              operationId: getDescription
              summary: This description.
              security: []
              responses:
                "200":
                  description: OpenAPI 3.1.
                  content:
                    application/yaml:
                      schema: { type: string }
                "405": { $ref: "#/components/responses/MethodNotAllowed" }
                "406": { $ref: "#/components/responses/Problem" }
                "408": { $ref: "#/components/responses/Problem" }
                "431": { $ref: "#/components/responses/Problem" }
            head:
              tags: [observation]
              operationId: headDescription
              summary: As GET, without the body.
              security: []
              responses: *headResponses
            options: *options
          /ping:
            get:
              tags: [clickhouse]
              operationId: ping
              summary: Whether the service is there.
              security: []
              responses:
                "200":
                  description: It is.
                  content:
                    text/html:
                      schema: { const: "Ok.\n" }
                "405": { $ref: "#/components/responses/MethodNotAllowed" }
                "408": { $ref: "#/components/responses/Problem" }
                "431": { $ref: "#/components/responses/Problem" }
                "503": { $ref: "#/components/responses/Exception" }
            head:
              tags: [clickhouse]
              operationId: headPing
              summary: As GET, without the body.
              security: []
              responses: *headResponses
            options: *options
          /:
            get:
              tags: [clickhouse]
              operationId: select
              summary: SELECT of what clients ask first; without parameters as /ping, and for browsers the status page.
              description: |
                Without parameters a client whose header `Accept` names `text/html` gets a page that shows /v1/status to people.
                It holds no data and needs no token.
              security: &clickHouseSecurity [{}, bearer: [], basic: [], clickHouseKey: [], password: []]
              parameters: &clickHouseParameters
                - name: query
                  in: query
                  description: A statement, or its beginning; 64 KiB at most.
                  schema: { type: string }
                  examples:
                    insert: { value: INSERT INTO events FORMAT JSONEachRow }
                    select: { value: SELECT 1 }
                - name: database
                  in: query
                  description: Where tables are that are named without a database.
                  schema: { type: string }
                - name: user
                  in: query
                  description: Not looked at.
                  schema: { type: string }
                - name: query_id
                  in: query
                  description: Told back.
                  schema: { type: string, maxLength: 256, pattern: "^[!-~]*$" }
                - name: default_format
                  in: query
                  description: Of a SELECT's result.
                  schema: { type: string }
              responses: &clickHouseResponses
                "200":
                  description: Done. An INSERT's answer is empty and comes once the rows are on stable storage.
                  headers:
                    X-ClickHouse-Query-Id: { schema: { type: string } }
                    X-ClickHouse-Server-Display-Name: { schema: { type: string } }
                    X-ClickHouse-Format: { schema: { type: string } }
                    X-ClickHouse-Timezone: { schema: { type: string } }
                    Vary: { description: "Accept, without parameters.", schema: { type: string } }
                    ETag: { description: Of the page., schema: { type: string } }
                    Content-Security-Policy: { description: Of the page., schema: { type: string } }
                    X-ClickHouse-Summary:
                      description: JSON; of an INSERT, with written_rows.
                      schema: { type: string }
                  content:
                    text/plain: { schema: { type: string } }
                    text/html: { schema: { type: string } }
                    text/tab-separated-values: { schema: { type: string } }
                    text/csv: { schema: { type: string } }
                    application/json: { schema: { type: object } }
                    application/x-ndjson: { schema: { type: string } }
                    application/octet-stream: { schema: { type: string } }
                "304": { description: "Of GET: the page is the one that If-None-Match names." }
                "400": { $ref: "#/components/responses/Exception" }
                "401": { $ref: "#/components/responses/Exception" }
                "403": { $ref: "#/components/responses/Exception" }
                "404": { $ref: "#/components/responses/Exception" }
                "405": { $ref: "#/components/responses/MethodNotAllowed" }
                "408": { $ref: "#/components/responses/Exception" }
                "413": { $ref: "#/components/responses/Exception" }
                "422": { $ref: "#/components/responses/Exception" }
                "431": { $ref: "#/components/responses/Problem" }
                "501": { $ref: "#/components/responses/Exception" }
                "503": { $ref: "#/components/responses/Exception" }
            head:
              tags: [clickhouse]
              operationId: headRoot
              summary: As GET, without the body.
              security: *clickHouseSecurity
              responses:
                "200": { description: There it is. }
                "304": { description: The page is the one that If-None-Match names. }
                "400": { description: A parameter is wrong. }
                "401": { description: A token is needed. }
                "403": { description: The token is wrong or may not do this. }
                "404": { description: There is no such table. }
                "408": { description: The request did not come in time. }
                "431": { description: The request's head is too large. }
                "501": { description: That is not offered here. }
                "503": { description: The service is shutting down. }
            post:
              tags: [clickhouse]
              operationId: insert
              summary: INSERT INTO table FORMAT JSONEachRow, and what GET takes.
              description: |
                The statement is in the parameter, in the body before the rows, or begins in the one and goes on in the other.
                Needs ROW_MODE=flat. Further parameters are settings of ClickHouse, of which those are refused that would change
                what is inserted or promised; docs/clickhouse-interface.md has the list.
              security: *clickHouseSecurity
              parameters: *clickHouseParameters
              requestBody:
                required: false
                content:
                  application/octet-stream:
                    schema: { type: string }
                    examples:
                      rows: { value: "{\"a\":1}\n{\"a\":2}\n" }
                      statement: { value: "INSERT INTO events FORMAT JSONEachRow\n{\"a\":1}\n" }
              responses: *clickHouseResponses
            options: *options

        """#
}
